// Package anthropic knows the wire of the Messages API: what a request asks
// for, what an answer means and whose fault it was, which headers may pass in
// which direction, how usage is counted and what it costs, and the shape of an
// error. It holds no state and does no I/O.
package anthropic
