// Command compare measures Caddy with shunt against Caddy's own reverse_proxy: one
// Caddy binary, one upstream, one load, and the Caddyfile chooses. Both are driven in
// turn, each time in a fresh process, and what is reported is the median of the ratios
// of neighbouring runs, with its quartiles: a machine that is busy with something else
// slows both of a pair.
//
// The upstream and the load are processes of their own, so that the processor time and
// the memory of the Caddy process are Caddy's alone. They are this same program, started
// again with another role.
//
//	compare -root <repository> -caddy <binary> [-short] [A B C D E F]
//
// ./xcaddy.sh bench builds both and runs it. It needs Linux, for /proc.
//
// What the parts measure:
//
//	A  small JSON answers, 64 connections
//	B  event streams without pause, 64 connections; 8 events a write, and one
//	C  paced event streams; the delay of each event is from a time stamp that the upstream writes into it
//	D  request bodies of 100 KB to 30 MB
//	E  the choice and its bookkeeping alone, by the benchmarks of package pool
//	F  the tap alone, by the benchmarks of package sse
package main
