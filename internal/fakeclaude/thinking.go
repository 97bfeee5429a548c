package fakeclaude

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"github.com/tidwall/gjson"
)

// Thinking blocks carry a signature that says what they are bound to: the model,
// on newer models the exact prefix that they answered, and on two models the
// organisation. The fake's signatures spell this out.

var prefixBound = []string{"fable-5-", "mythos-5-", "opus-5-5", "sonnet-5-5", "haiku-5-5"}

func bindsPrefix(modelID string) bool {
	for _, part := range prefixBound {
		if strings.Contains(modelID, part) {
			return true
		}
	}
	return false
}

func bindsAccount(modelID string) bool {
	return strings.Contains(modelID, "sonnet-5-5") || strings.Contains(modelID, "haiku-5-5")
}

const signaturePrefix = "fake-thinking"

// prefixName names the prompt up to that many segments.
func (p *prompt) prefixName(segments int) string {
	if segments == 0 {
		return "none"
	}
	return hex.EncodeToString(p.segments[segments-1].chain[:8])
}

func (ex *exchange) sign() string {
	p := &ex.prompt
	org := "any"
	if bindsAccount(p.model) {
		org = ex.acct.Org
	}
	parts := []string{signaturePrefix, p.model, p.prefixName(len(p.segments)), org}
	return base64.StdEncoding.EncodeToString([]byte(strings.Join(parts, "|")))
}

// transformation is one entry of input_transformations: a block that the model
// was not shown.
type transformation struct {
	Type    string `json:"type"`
	Message int    `json:"message_index"`
	Content int    `json:"content_index"`
	Reason  string `json:"reason"`
}

// checkThinking goes through the thinking blocks that come back. Those of
// another model or account are dropped in silence; one whose prefix has changed
// is an error, unless the request asks to drop it. False means that the answer
// is out.
func (ex *exchange) checkThinking() ([]transformation, bool) {
	var dropped []transformation
	refusal := ""
	root := gjson.ParseBytes(ex.prompt.body)
	drops := root.Get("thinking.block_binding.prefix_mismatch_behavior").String() == "drop_block"
	for i, message := range root.Get("messages").Array() {
		if message.Get("role").String() != "assistant" || !message.Get("content").IsArray() {
			continue
		}
		for j, block := range message.Get("content").Array() {
			if block.Get("type").String() != "thinking" {
				continue
			}
			where := fmt.Sprintf("messages.%d.content.%d: ", i, j)
			switch verdict := ex.judge(block.Get("signature").String(), i); {
			case verdict == "":
			case verdict == "invalid":
				refusal = where + "Invalid `signature` in `thinking` block"
			case verdict == "prefix_mismatch" && !drops:
				refusal = where + "Invalid `signature` in `thinking` block. The block is bound to a different conversation. " +
					"Remove the block, or set `thinking.block_binding.prefix_mismatch_behavior` to \"drop_block\"."
			default:
				dropped = append(dropped, transformation{"thinking_block_dropped", i, j, verdict})
			}
			if refusal != "" {
				ex.fail(http.StatusBadRequest, "invalid_request_error", refusal)
				return nil, false
			}
		}
	}
	return dropped, true
}

// judge says what is wrong with a signature in that message, or nothing.
func (ex *exchange) judge(signature string, message int) string {
	p := &ex.prompt
	plain, err := base64.StdEncoding.DecodeString(signature)
	parts := strings.Split(string(plain), "|")
	switch {
	case err != nil || len(parts) != 4 || parts[0] != signaturePrefix:
		return "invalid"
	case parts[1] != p.model:
		return "model_binding_mismatch"
	case parts[3] != "any" && parts[3] != ex.acct.Org:
		return "account_binding_mismatch"
	case bindsPrefix(p.model) && parts[2] != p.prefixName(p.ends[message]):
		return "prefix_mismatch"
	}
	return ""
}
