package fakeclaude

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/tidwall/gjson"
)

// prompt is what the fake takes from a request body.
type prompt struct {
	body      []byte
	digest    [32]byte
	model     string
	maxTokens int64
	stream    bool
	thinks    bool
	effort    string
	speed     string
	lastUser  string
	firstTool string
	searches  bool
	segments  []segment
	// ends[i] is the number of segments before message i.
	ends []int
}

// segment is one block of the prompt in the order in which it is cached: tools,
// system, messages. chain depends on it and all before it, but not on
// cache_control marks, which clients move from turn to turn.
type segment struct {
	chain [32]byte
	// bytes is the length of the prompt up to and including this block.
	bytes int64
	// life is 0 without a cache mark, 1 for five minutes, 12 for one hour.
	life int
}

// bytesPerToken is the whole tokenizer.
const bytesPerToken = 4

func (p *prompt) tokensUpTo(segments int) int64 {
	if segments == 0 {
		return 0
	}
	return p.segments[segments-1].bytes / bytesPerToken
}

func (p *prompt) tokens() int64 { return p.tokensUpTo(len(p.segments)) }

// parsePrompt reads the body of a messages or count_tokens request. The error
// is what the API would answer with 400.
func parsePrompt(body []byte, counting bool) (prompt, error) {
	p := prompt{body: body, digest: sha256.Sum256(body)}
	if !gjson.ValidBytes(body) {
		return p, fmt.Errorf("The request body is not valid JSON.") //nolint:staticcheck // the API's sentence
	}
	root := gjson.ParseBytes(body)
	for _, field := range []string{"model", "max_tokens", "messages"} {
		if field == "max_tokens" && counting {
			continue
		}
		if !root.Get(field).Exists() {
			return p, fmt.Errorf("%s: Field required", field)
		}
	}
	messages := root.Get("messages")
	if !messages.IsArray() || len(messages.Array()) == 0 {
		return p, fmt.Errorf("messages: at least one message is required")
	}
	// A clone: what is remembered of a request must not hold all of its body.
	p.model = strings.Clone(root.Get("model").String())
	p.maxTokens = root.Get("max_tokens").Int()
	if !counting && p.maxTokens < 1 {
		return p, fmt.Errorf("max_tokens: must be greater than or equal to 1")
	}
	p.stream = root.Get("stream").Bool()
	mode := root.Get("thinking.type").String()
	p.thinks = mode == "enabled" || mode == "adaptive"
	p.effort = strings.Clone(root.Get("output_config.effort").String())
	p.speed = strings.Clone(root.Get("speed").String())
	p.readTools(root.Get("tools"))
	p.readSystem(root.Get("system"))
	p.readMessages(messages)
	if root.Get("cache_control").IsObject() {
		p.mark(root.Get("cache_control"))
	}
	return p, nil
}

func (p *prompt) readTools(tools gjson.Result) {
	tools.ForEach(func(_, tool gjson.Result) bool {
		p.add("tool", tool)
		if strings.HasPrefix(tool.Get("type").String(), "web_search") {
			p.searches = true
		} else if p.firstTool == "" {
			p.firstTool = tool.Get("name").String()
		}
		return true
	})
}

func (p *prompt) readSystem(system gjson.Result) {
	if system.Type == gjson.String {
		p.addText("system", system.Raw)
		return
	}
	system.ForEach(func(_, block gjson.Result) bool {
		p.add("system", block)
		return true
	})
}

func (p *prompt) readMessages(messages gjson.Result) {
	messages.ForEach(func(_, message gjson.Result) bool {
		p.ends = append(p.ends, len(p.segments))
		role := message.Get("role").String()
		content := message.Get("content")
		var text string
		if content.Type == gjson.String {
			p.addText(role, content.Raw)
			text = content.Str
		} else {
			content.ForEach(func(_, block gjson.Result) bool {
				p.add(role, block)
				text += block.Get("text").String()
				return true
			})
		}
		if role == "user" {
			p.lastUser = text
		}
		return true
	})
}

// addText makes a plain string equal to the one text block that it stands for:
// clients turn one into the other when they add a cache mark.
func (p *prompt) addText(role, rawString string) {
	p.append(role, []byte(`{"type":"text","text":`+rawString+`}`))
}

func (p *prompt) add(role string, block gjson.Result) {
	mark := block.Get("cache_control")
	if !mark.Exists() {
		p.append(role, []byte(block.Raw))
		return
	}
	p.append(role, without(block, "cache_control"))
	p.mark(mark)
}

func (p *prompt) append(role string, block []byte) {
	next := segment{bytes: int64(len(block))}
	digest := sha256.New()
	if n := len(p.segments); n > 0 {
		last := p.segments[n-1]
		digest.Write(last.chain[:])
		next.bytes += last.bytes
	}
	digest.Write([]byte(role + "\x00"))
	digest.Write(block)
	digest.Sum(next.chain[:0])
	p.segments = append(p.segments, next)
}

// mark makes the last block a cache breakpoint.
func (p *prompt) mark(cacheControl gjson.Result) {
	if len(p.segments) == 0 || !cacheControl.IsObject() {
		return
	}
	life := 1
	if cacheControl.Get("ttl").String() == "1h" {
		life = 12
	}
	p.segments[len(p.segments)-1].life = life
}

// without copies an object, leaving one key out and all other bytes as they are.
func without(object gjson.Result, key string) []byte {
	var out bytes.Buffer
	out.WriteByte('{')
	object.ForEach(func(k, v gjson.Result) bool {
		if k.Str == key {
			return true
		}
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		out.WriteString(k.Raw)
		out.WriteByte(':')
		out.WriteString(v.Raw)
		return true
	})
	out.WriteByte('}')
	return out.Bytes()
}
