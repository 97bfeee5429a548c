// Package faults is a conformance suite for proxies that pool Anthropic
// accounts: a list of faults, each of which befalls first one account of two
// and then both, and what client and upstream must see of it. README.md says
// how to run it against shunt and against any other proxy.
package faults
