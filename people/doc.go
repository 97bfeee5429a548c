// Package people holds what people of a team may use of a pool: which models, how
// many requests at once and a minute, and how much for how long.
//
// It knows no HTTP and no configuration, and takes time from its caller.
package people
