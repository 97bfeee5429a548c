package faults

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// clientKey is what clients of a Caddy of ours show.
const clientKey = "key-of-the-fault-suite"

// caddy is the process under test, with a pool for each scene.
type caddy struct {
	home, config string
	plain        string // URL
	secure       endpoint
	cmd          *exec.Cmd
	log          *lockedBuffer
	done         chan struct{}
	err          error // how the process ended, once done is closed
}

// lockedBuffer is what the process writes to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startCaddy starts the binary with the scenes' pools and tells each scene its URL.
func startCaddy(binary, home string, scenes []*scene) (*caddy, error) {
	socket, address, err := inherited()
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	secure, err := freeAddress()
	if err != nil {
		return nil, err
	}
	c := &caddy{
		home: home, config: filepath.Join(home, "Caddyfile"), plain: "http://" + address,
		secure: endpoint{addr: secure}, log: new(lockedBuffer), done: make(chan struct{}),
	}
	if err := os.WriteFile(c.config, []byte(c.caddyfile(scenes)), 0o600); err != nil {
		return nil, err
	}
	for _, s := range scenes {
		s.url = c.plain + "/" + s.id
		if s.protocol == http3q {
			s.url = "https://localhost" + secure[strings.LastIndex(secure, ":"):] + "/" + s.id
		}
		if s.row.sick.login != nil {
			if err := c.importLogins(binary, s); err != nil {
				return nil, err
			}
		}
	}
	c.cmd = c.command(binary, "run", "--config", c.config, "--adapter", "caddyfile")
	c.cmd.ExtraFiles = []*os.File{socket} // file descriptor 3
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	if err := c.ready(scenes); err != nil {
		c.stop()
		return nil, fmt.Errorf("caddy did not start: %w\n%s", err, c.log)
	}
	return c, nil
}

// inherited is a socket that listens already. Caddy shares its ports with others
// (SO_REUSEPORT), so a number that was only found to be free could be taken
// twice, unnoticed.
func inherited() (*os.File, string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	return socket, listener.Addr().String(), err
}

func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

func (c *caddy) command(binary string, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Dir = c.home
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + c.home, "XDG_DATA_HOME=" + c.home, "XDG_CONFIG_HOME=" + c.home,
		"GORACE=halt_on_error=1", "CLIENT_KEY=" + clientKey,
	}
	for name, key := range accountKeys {
		cmd.Env = append(cmd.Env, "ACCOUNT_"+strings.ToUpper(name)+"="+key)
	}
	return cmd
}

// caddyfile has one site for HTTP/1.1 and h2c, and one for HTTP/3. Each scene's
// pool is mounted under its id.
func (c *caddy) caddyfile(scenes []*scene) string {
	var b strings.Builder
	b.WriteString("{\n\tadmin off\n\tpersist_config off\n\tskip_install_trust\n\tauto_https disable_redirects\n\tgrace_period 2s\n")
	b.WriteString("\tservers {\n\t\tprotocols h1 h2 h2c h3\n\t}\n}\n")
	sites := []struct {
		header string
		secure bool
	}{
		{c.plain + " {\n\tbind fd/3\n", false},
		{"https://localhost" + c.secure.addr[strings.LastIndex(c.secure.addr, ":"):] + " {\n\tbind 127.0.0.1\n\ttls internal\n", true},
	}
	for _, site := range sites {
		b.WriteString(site.header)
		b.WriteString("\thandle /alive {\n\t\trespond ok\n\t}\n")
		for _, s := range scenes {
			if (s.protocol == http3q) == site.secure {
				fmt.Fprintf(&b, "\thandle_path /%s/* {\n%s\t}\n", s.id, s.directive())
			}
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// defaults are what a row's settings may override. The stall timeout is long
// enough for a busy machine; nobody waits in line unless the row is about that; and
// going round asks every account that is open, whatever it told of its limits.
var defaults = []string{"hold off", "stall_timeout 5s", "policy round_robin"}

func (s *scene) directive() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\t\tshunt {\n\t\t\tpool %s\n\t\t\tremote_key suite {env.CLIENT_KEY}\n", s.id)
	for _, name := range accountNames {
		credential := "api_key {env.ACCOUNT_" + strings.ToUpper(name) + "}"
		if s.row.sick.login != nil {
			credential = "oauth {\n\t\t\t\t\ttoken_url " + s.base(name) + "/v1/oauth/token\n\t\t\t\t}\n\t\t\t\towner *"
		}
		fmt.Fprintf(&b, "\t\t\taccount %s {\n\t\t\t\t%s\n\t\t\t\tupstream %s\n\t\t\t}\n", name, credential, s.base(name))
	}
	settings := s.row.settings
	for _, line := range defaults {
		word, _, _ := strings.Cut(line, " ")
		if !strings.Contains(settings, word) {
			settings += "\n" + line
		}
	}
	for line := range strings.Lines(settings) {
		b.WriteString("\t\t\t" + strings.TrimSpace(line) + "\n")
	}
	b.WriteString("\t\t}\n")
	return b.String()
}

// importLogins puts the logins of a scene into the storage, as an operator does.
func (c *caddy) importLogins(binary string, s *scene) error {
	for _, name := range accountNames {
		access, refresh := s.fake.Tokens(name)
		data, err := json.Marshal(map[string]any{"claudeAiOauth": map[string]any{
			"accessToken": access, "refreshToken": refresh, "expiresAt": time.Now().Add(8 * time.Hour).UnixMilli(),
			"scopes": []string{"user:inference"}, "subscriptionType": "max",
		}})
		if err != nil {
			return err
		}
		file := filepath.Join(c.home, "credentials.json")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			return err
		}
		out, err := c.command(binary, "shunt", "import", name, "--pool", s.id, "--file", file, "--config", c.config, "--adapter", "caddyfile").CombinedOutput()
		if err != nil {
			return fmt.Errorf("importing the login %s of %s: %w\n%s", name, s.id, err, out)
		}
	}
	return nil
}

// ready waits until both sites answer.
func (c *caddy) ready(scenes []*scene) error {
	if err := c.answers(newClient(http11, nil), c.plain); err != nil {
		return err
	}
	for _, s := range scenes {
		if s.protocol != http3q {
			continue
		}
		authority, err := os.ReadFile(filepath.Join(c.home, "caddy", "pki", "authorities", "local", "root.crt"))
		if err != nil {
			return err
		}
		c.secure.roots = x509.NewCertPool()
		if !c.secure.roots.AppendCertsFromPEM(authority) {
			return errors.New("caddy's local authority has no certificate")
		}
		return c.answers(newClient(http3q, &c.secure), strings.TrimSuffix(s.url, "/"+s.id))
	}
	return nil
}

func (c *caddy) answers(client *http.Client, url string) error {
	client.Timeout = 2 * time.Second
	return eventually(30*time.Second, func() error {
		select {
		case <-c.done:
			return fmt.Errorf("it ended: %w", c.err)
		default:
		}
		resp, err := client.Get(url + "/alive")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
}

// stop ends Caddy as an operator would and says what was wrong with how it ended.
func (c *caddy) stop() error {
	_ = c.cmd.Process.Signal(os.Interrupt)
	select {
	case <-c.done:
	case <-time.After(20 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.done
		return errors.New("caddy did not stop within 20 s")
	}
	said := c.log.String()
	for _, bad := range []string{"panic: ", "DATA RACE", "goroutine "} {
		if i := strings.Index(said, bad); i >= 0 {
			return fmt.Errorf("caddy's log has %q: %s", bad, said[max(0, i-500):min(len(said), i+3000)])
		}
	}
	for name, key := range accountKeys {
		if strings.Contains(said, key) {
			return fmt.Errorf("caddy logged the key of account %s", name)
		}
	}
	if strings.Contains(said, clientKey) {
		return errors.New("caddy logged the client's key")
	}
	if c.err != nil {
		return fmt.Errorf("caddy ended with %w", c.err)
	}
	return nil
}
