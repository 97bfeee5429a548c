package shunt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// The shells that connect writes lines for.
const (
	shellBash       = "bash" // and what is like it: sh, zsh
	shellFish       = "fish"
	shellPowershell = "powershell"
)

var shells = []string{shellBash, shellFish, shellPowershell}

// keyPlaceholder stands where the key is not to be shown.
const keyPlaceholder = "your-key"

// extraCAsVariable names a file of further certificate authorities that Claude Code
// and everything else on Node trusts.
const extraCAsVariable = "NODE_EXTRA_CA_CERTS"

// client is what a client is told.
type client struct {
	base  string
	key   clientKey
	model string
	// extraCAs is the file of authorities without which the certificate is not
	// trusted; empty when it is trusted anyway.
	extraCAs string
}

// snippet is something to paste.
type snippet struct {
	name, title, text string
}

// snippets are the lines for all clients. README.md and docs/team.md tell the same.
func snippets(shell string, c *client, showKey bool) []snippet {
	key := keyPlaceholder
	if showKey && c.key.secret != "" {
		key = c.key.secret
	}
	vars := [][2]string{{"ANTHROPIC_BASE_URL", c.base}, {"ANTHROPIC_AUTH_TOKEN", key}}
	if c.extraCAs != "" {
		vars = append(vars, [2]string{extraCAsVariable, c.extraCAs})
	}
	set := func(more ...string) string {
		var b strings.Builder
		for _, v := range vars {
			b.WriteString(assignment(shell, v[0], v[1]) + "\n")
		}
		return b.String() + strings.Join(more, "")
	}
	authorities := ""
	if c.extraCAs != "" {
		authorities = assignment(shell, "SSL_CERT_FILE", c.extraCAs) + "\n"
	}
	shuntKey := assignment(shell, "SHUNT_KEY", key) + "\n"
	return []snippet{
		{"claude_code", "Claude Code", set("claude\n")},
		{"claude_code_settings", "Claude Code, for good: ~/.claude/settings.json", settingsJSON(vars)},
		{"key", "The key, for what follows", shuntKey + authorities},
		{"python", "Python", fmt.Sprintf("client = anthropic.Anthropic(base_url=%s, auth_token=os.environ[\"SHUNT_KEY\"])\n", quoted(c.base))},
		{"typescript", "TypeScript", fmt.Sprintf("const client = new Anthropic({ baseURL: %s, authToken: process.env.SHUNT_KEY });\n", quoted(c.base))},
		{"go", "Go", fmt.Sprintf("client := anthropic.NewClient(\n\toption.WithBaseURL(%s),\n\toption.WithAuthToken(os.Getenv(\"SHUNT_KEY\")),\n)\n", quoted(c.base))},
		{"curl", "curl", curlLines(shell, c)},
	}
}

// quoted is a text as Python, TypeScript and Go all write it.
func quoted(s string) string { return string(indented(s)) }

// indented is JSON without the escapes that only web pages need.
func indented(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(v) // texts always marshal
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// settingsJSON is the part of Claude Code's settings that sets the variables.
func settingsJSON(vars [][2]string) string {
	env := make(map[string]string, len(vars))
	for _, v := range vars {
		env[v[0]] = v[1]
	}
	return string(indented(map[string]any{"env": env})) + "\n"
}

func curlLines(shell string, c *client) string {
	body := fmt.Sprintf(`{"model": %s, "max_tokens": 1000, "messages": [{"role": "user", "content": "hello"}]}`, quoted(c.model))
	if shell == shellPowershell {
		// Windows PowerShell takes the quotes out of what it gives to curl.exe.
		return fmt.Sprintf("Invoke-RestMethod %s -Method Post -ContentType application/json `\n"+
			"  -Headers @{ \"x-api-key\" = $env:SHUNT_KEY; \"anthropic-version\" = \"2023-06-01\" } `\n  -Body %s\n", shellWord(shell, c.base+"/v1/messages"), shellWord(shell, body))
	}
	return fmt.Sprintf("curl %s \\\n  -H \"x-api-key: $SHUNT_KEY\" -H \"anthropic-version: 2023-06-01\" -H \"content-type: application/json\" \\\n  -d %s\n",
		shellWord(shell, c.base+"/v1/messages"), shellWord(shell, body))
}

// assignment sets a variable of the environment.
func assignment(shell, name, value string) string {
	switch shell {
	case shellFish:
		return "set -gx " + name + " " + shellWord(shell, value)
	case shellPowershell:
		return "$env:" + name + " = '" + strings.ReplaceAll(value, "'", "''") + "'"
	default:
		return "export " + name + "=" + shellWord(shell, value)
	}
}

// shellWord is a text as one word of the shell's, quoted if it must be.
func shellWord(shell, s string) string {
	const harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%+,"
	if s != "" && strings.Trim(s, harmless) == "" {
		return s
	}
	switch shell {
	case shellFish:
		s = strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s)
	case shellPowershell:
		s = strings.ReplaceAll(s, `'`, `''`)
	default:
		s = strings.ReplaceAll(s, `'`, `'\''`)
	}
	return "'" + s + "'"
}

// linesOf are the snippets by name.
func linesOf(list []snippet) map[string]string {
	lines := make(map[string]string, len(list))
	for _, s := range list {
		lines[s.name] = s.text
	}
	return lines
}

func printSnippets(w io.Writer, list []snippet) error {
	var b bytes.Buffer
	for _, s := range list {
		b.WriteString("\n" + s.title + "\n\n")
		for line := range strings.Lines(s.text) {
			b.WriteString("    " + line)
		}
	}
	if _, err := b.WriteTo(w); err != nil {
		return fmt.Errorf("printing the lines: %w", err)
	}
	return nil
}
