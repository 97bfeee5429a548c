package shunt

import (
	"errors"
	"io"
	"sync"
)

// heldBody is the body of a request, held to be sent again. The memory of a large one is
// lent: it goes to another request once the exchange and everybody who sends it have let
// go of it.
type heldBody struct {
	lender *sync.Pool // nil for memory that is not lent
	buffer *[]byte

	mu      sync.Mutex
	bytes   []byte // nil once nobody holds it
	holders int
}

// Bodies below leastLent are cheaper to make than to lend. Those above mostLent are rare,
// and their memory would wait for the next in vain.
const (
	leastLent = 64 << 10
	mostLent  = 64 << 20
)

// lenders have a pool for each size of memory: four of them from a power of two to the
// next, so that no more than a fifth of what is lent lies idle.
var lenders [4 * 26]sync.Pool

// holdBody returns a body of n bytes, which the caller fills and holds.
func holdBody(n int64) *heldBody {
	b := &heldBody{holders: 1}
	if n < leastLent || n > mostLent {
		b.bytes = make([]byte, n)
		return b
	}
	class, size := lentSize(int(n))
	b.lender = &lenders[class]
	if b.buffer, _ = b.lender.Get().(*[]byte); b.buffer == nil {
		made := make([]byte, size)
		b.buffer = &made
	}
	b.bytes = (*b.buffer)[:n]
	return b
}

// lentSize is the size that is lent for n bytes, and its number among all sizes.
func lentSize(n int) (class, size int) {
	power := 0
	for 2<<power < n {
		power++
	}
	quarter := 1 << power / 4 // n is above 2^power, by up to four of these
	steps := (n - 1 - 1<<power) / quarter
	return 4*power + steps, 1<<power + (steps+1)*quarter
}

// hold keeps the memory for one more holder; false when it has gone.
func (b *heldBody) hold() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.holders == 0 {
		return false
	}
	b.holders++
	return true
}

// letGo ends one holder's hold. The last one's gives the memory back.
func (b *heldBody) letGo() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.holders--; b.holders > 0 {
		return
	}
	b.bytes = nil
	if b.lender != nil {
		b.lender.Put(b.buffer)
		b.buffer = nil
	}
}

var errLetGo = errors.New("the body is not held any more")

// toSend returns a reader of the body, which holds it until it was read or closed.
func (b *heldBody) toSend() (io.ReadCloser, error) {
	if !b.hold() {
		return nil, errLetGo
	}
	return &sentBody{held: b, rest: b.bytes}, nil
}

// sentBody is a request's body on its way to upstream. It lets go of what was sent: the
// transport keeps a request, and with it this reader, until its answer has ended.
type sentBody struct {
	mu   sync.Mutex // the transport may close it while it reads
	held *heldBody  // nil once it let go of it
	rest []byte
}

// Read copies under the lock: once Close has returned, nobody reads the memory.
func (b *sentBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := copy(p, b.rest)
	if b.rest = b.rest[n:]; len(b.rest) > 0 {
		return n, nil
	}
	b.end()
	return n, io.EOF
}

func (b *sentBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end()
	return nil
}

func (b *sentBody) end() {
	b.rest = nil
	if b.held != nil {
		b.held.letGo()
		b.held = nil
	}
}
