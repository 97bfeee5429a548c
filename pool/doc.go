// Package pool keeps what is known of a pool's accounts (windows, benches,
// requests in flight, sessions, totals) and decides which account serves a
// request.
//
// Accounts whose credentials belong to one organisation draw on the same limits;
// [Pool.Identify] says which.
//
// A [Pool] is state: it is shared by every configuration that names it and
// outlives them. A [Group] is configuration: the accounts, as [Member]s, and the
// policy of one handler, immutable, over one Pool. The package does no I/O,
// starts no goroutine and takes the time from the clock it is given.
package pool
