// Package failpoint lets tests end, stop or delay a process at a named step, and
// move its clock. Without the build tag shuntfail it does nothing at all.
package failpoint
