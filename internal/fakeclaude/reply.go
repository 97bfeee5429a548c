package fakeclaude

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
)

// reply is one answer, made from the request body alone but for the cache
// counts and, on account-bound models, the signature. Streams and JSON answers
// are two renderings of it.
type reply struct {
	id, model string
	blocks    []block
	stop      string
	// prompt is what was charged before the answer began.
	prompt   Usage
	output   int64
	thought  int64
	searched bool
	dropped  []transformation
	// container is where the answer's code ran, if any did.
	container *container
}

// block is a content block cut into the pieces that a stream delivers.
type block struct {
	kind      string
	pieces    []string
	signature string
	toolID    string
	toolName  string
}

func (b *block) whole() string { return strings.Join(b.pieces, "") }

func pieceTokens(piece string) int64 {
	return int64(len(piece)+bytesPerToken-1) / bytesPerToken
}

// words holds, besides plain ones, what trips careless parsers of streams.
var words = strings.Fields(`the cache answers a window that opens while every pool of accounts waits for its turn
	and then some quick brown server reads one more file before it writes naïve Größe 東京 🙂 "quoted" back\slash
	data: event: </script> & 100% {json} [DONE] so we test what breaks: message_stop is only text here`)

// compose makes the reply; equal bodies and seeds give equal replies.
func (ex *exchange) compose(used Usage) *reply {
	p := &ex.prompt
	dice := rand.New(rand.NewPCG(binary.BigEndian.Uint64(p.digest[:]), binary.BigEndian.Uint64(p.digest[8:])^ex.s.opts.Seed))
	c := composer{dice: dice, budget: p.maxTokens}
	r := &reply{
		id:    "msg_01" + token(fmt.Sprintf("message/%d/%x", ex.s.opts.Seed, p.digest), 22),
		model: p.model, prompt: used, stop: "end_turn",
	}
	asked := strings.ToLower(p.lastUser)
	if p.thinks {
		r.blocks = append(r.blocks, c.prose("thinking", 2+dice.Int64N(12)))
		r.blocks[0].signature = ex.sign()
		r.thought = c.spent
	}
	least := int64(ex.s.opts.OutputTokens)
	if least == 0 {
		least = 12 + dice.Int64N(160)
	}
	r.blocks = append(r.blocks, c.prose("text", least))
	if p.firstTool != "" && strings.Contains(asked, "use a tool") {
		if call, ok := c.toolCall(p.firstTool, p.digest); ok {
			r.blocks = append(r.blocks, call)
			r.stop = "tool_use"
		}
	}
	r.searched = p.searches && strings.Contains(asked, "search")
	if c.exhausted {
		r.stop = "max_tokens"
	}
	r.output = max(1, c.spent)
	return r
}

// composer writes within the request's max_tokens.
type composer struct {
	dice      *rand.Rand
	budget    int64
	spent     int64
	exhausted bool
}

func (c *composer) prose(kind string, least int64) block {
	b := block{kind: kind}
	var got int64
	for got < least {
		piece := c.piece(got == 0)
		cost := pieceTokens(piece)
		if c.spent+cost > c.budget {
			c.exhausted = true
			break
		}
		b.pieces = append(b.pieces, piece)
		c.spent += cost
		got += cost
	}
	return b
}

func (c *composer) piece(first bool) string {
	var text strings.Builder
	for i := range 2 + c.dice.IntN(4) {
		switch {
		case !first && c.dice.IntN(24) == 0:
			text.WriteString(".\n\n")
		case !first || i > 0:
			text.WriteByte(' ')
		}
		text.WriteString(words[c.dice.IntN(len(words))])
	}
	return text.String()
}

// toolCall is left out when it does not fit: half an input is no JSON.
func (c *composer) toolCall(name string, digest [32]byte) (block, bool) {
	b := block{kind: "tool_use", toolName: name, toolID: "toolu_01" + token(fmt.Sprintf("tool/%x", digest), 22)}
	b.pieces = []string{
		`{"command": "`, words[c.dice.IntN(20)] + ` `, words[c.dice.IntN(20)], `", "co`,
		fmt.Sprintf(`unt": %d}`, c.dice.IntN(100)),
	}
	cost := int64(0)
	for _, piece := range b.pieces {
		cost += pieceTokens(piece)
	}
	if c.exhausted || c.spent+cost > c.budget {
		c.exhausted = true
		return block{}, false
	}
	c.spent += cost
	return b, true
}
