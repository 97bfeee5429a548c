package main

import "math"

// network is a graph of capacities through which flow goes from node 0 to node 1.
type network struct {
	edges []edge
	first [][]int // of each node: its edges
	level []int
	next  []int
	queue []int
}

// edge is followed by its reverse, so that e^1 is the way back.
type edge struct {
	to   int
	left float64
}

const (
	sourceNode = 0
	sinkNode   = 1
	// negligible is what counts as no capacity: costs are in the hundreds and more.
	negligible = 1e-3
)

func newNetwork() *network {
	n := &network{}
	n.node()
	n.node()
	return n
}

func (n *network) node() int {
	n.first = append(n.first, nil)
	return len(n.first) - 1
}

func (n *network) edge(from, to int, capacity float64) {
	n.first[from] = append(n.first[from], len(n.edges))
	n.first[to] = append(n.first[to], len(n.edges)+1)
	n.edges = append(n.edges, edge{to, capacity}, edge{from, 0})
}

// maximum is the largest flow (Dinic's algorithm).
func (n *network) maximum() (sum float64) {
	n.level, n.next = make([]int, len(n.first)), make([]int, len(n.first))
	for n.layer() {
		clear(n.next)
		for {
			pushed := n.push(sourceNode, math.Inf(1))
			if pushed <= negligible {
				break
			}
			sum += pushed
		}
	}
	return sum
}

// layer numbers the nodes by their distance from the source; false when the sink
// is out of reach.
func (n *network) layer() bool {
	for i := range n.level {
		n.level[i] = -1
	}
	n.level[sourceNode] = 0
	n.queue = append(n.queue[:0], sourceNode)
	for len(n.queue) > 0 {
		at := n.queue[0]
		n.queue = n.queue[1:]
		for _, i := range n.first[at] {
			if e := &n.edges[i]; e.left > negligible && n.level[e.to] < 0 {
				n.level[e.to] = n.level[at] + 1
				n.queue = append(n.queue, e.to)
			}
		}
	}
	return n.level[sinkNode] >= 0
}

// push sends as much as it can of most from a node on, along rising levels.
func (n *network) push(at int, most float64) (sum float64) {
	if at == sinkNode {
		return most
	}
	for ; n.next[at] < len(n.first[at]); n.next[at]++ {
		i := n.first[at][n.next[at]]
		e := &n.edges[i]
		if e.left <= negligible || n.level[e.to] != n.level[at]+1 {
			continue
		}
		pushed := n.push(e.to, min(most-sum, e.left))
		n.edges[i].left -= pushed
		n.edges[i^1].left += pushed
		if sum += pushed; most-sum <= negligible {
			return sum
		}
	}
	return sum
}
