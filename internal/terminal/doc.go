// Package terminal draws for a terminal: lines of marked text, bars, tables that fit
// a width, and a full screen that leaves the terminal as it was. It knows nothing of
// pools.
package terminal
