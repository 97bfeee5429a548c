// Package ledger keeps the books of a pool: who used what on which account, day by
// day, in tokens and money. Each process writes records of its own, one a day, and
// reads those of the others, also of those that have ended; what all have together is
// what budgets and reports count.
//
// It does no I/O and takes time from its caller.
package ledger
