package integration

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

// tokensOf is the sum of GET /usage, and how many requests it is of.
func (s *site) tokensOf(query string) (tokens, requests int64) {
	s.t.Helper()
	a := s.do(http.MethodGet, s.url+"/usage"+query, "", "X-Api-Key", annKey)
	var answer struct{ Total usageRow }
	if err := json.Unmarshal([]byte(a.body), &answer); err != nil || a.status != http.StatusOK {
		s.t.Fatalf("usage: %d %v %s", a.status, err, a.body)
	}
	return answer.Total.Total, answer.Total.Requests
}

// charged is what upstream charged altogether.
func (u *upstream) charged() (tokens int64) {
	for _, book := range u.Books() {
		tokens += book.Prompt() + book.Output
	}
	return tokens
}

// TestBooksSurviveKills: what was used longer than the write interval ago is there
// after each of many kills, and nothing is there twice.
func TestBooksSurviveKills(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	s := newSite(t, up, global+block, secrets...)
	s.start()
	asked := int64(0)
	for kill := range 4 {
		for range 5 {
			s.ask(annKey, hello).mustServe(t)
			asked++
		}
		time.Sleep(3 * time.Second) // the books are written every two
		s.end(syscall.SIGKILL)
		s.start()
		if tokens, requests := s.tokensOf(""); tokens != up.charged() || requests != asked {
			t.Fatalf("after kill %d: %d tokens in %d requests; upstream charged %d for %d", kill, tokens, requests, up.charged(), asked)
		}
	}
	s.ask(annKey, hello).mustServe(t)
	s.stop() // what is not written yet is now
	s.start()
	if tokens, requests := s.tokensOf(""); tokens != up.charged() || requests != asked+1 {
		t.Errorf("after a stop: %d tokens in %d requests; upstream charged %d", tokens, requests, up.charged())
	}
}

// TestBooksOfTwoInstances: both tell the same sums, and a budget counts what was used
// on either.
func TestBooksOfTwoInstances(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	shared := t.TempDir()
	var sites []*site
	for _, name := range []string{"one", "two"} {
		config := strings.Replace(global, "{\n", "{\n\tstorage file_system "+shared+"\n", 1) + block
		config = strings.Replace(config, "remote_key bob {env.BOB_KEY}", "remote_key bob {env.BOB_KEY} {\n\t\t\tbudget 300tokens per month\n\t\t}", 1)
		config = strings.Replace(config, "retries 3", "retries 3\n\t\tinstances {\n\t\t\tname "+name+"\n\t\t\tinterval 500ms\n\t\t}", 1)
		s := newSite(t, up, config, secrets...)
		s.start()
		sites = append(sites, s)
	}
	one, two := sites[0], sites[1]
	for range 6 {
		one.ask(annKey, hello).mustServe(t)
		two.ask(annKey, hello).mustServe(t)
	}
	for _, s := range sites {
		eventually(t, "both tell all", 10*time.Second, func() bool {
			tokens, requests := s.tokensOf("")
			return tokens == up.charged() && requests == 12
		})
	}
	for one.ask(bobKey, hello).status == http.StatusOK {
	}
	eventually(t, "a budget that was used up on one is on the other", 10*time.Second, func() bool {
		a := two.ask(bobKey, hello)
		return a.status == http.StatusTooManyRequests && strings.Contains(a.body, "billing_error")
	})
}

// TestClientCertificatesNamePeople: with mTLS in front nobody needs a key.
func TestClientCertificatesNamePeople(t *testing.T) {
	up := startUpstream(t, fakeclaude.Options{Accounts: accounts()})
	ca := authority(t, "team")
	ann, eve := ca.issue(t, "ann"), ca.issue(t, "eve")
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	config := strings.Replace(global+`https://localhost:%PORT% {
	tls internal {
		client_auth {
			mode require_and_verify
			trust_pool file `+file+`
		}
	}
	shunt {
		user {http.request.tls.client.subject}
		person CN=ann {
			admin
			models claude-haiku-*
		}
		person * {
			rate 1
		}
		upstream %UPSTREAM%
		account a {
			api_key {env.KEY_A}
		}
	}
}
%SITE% {
	respond "ready"
}
`, "admin %ADMIN%", "admin %ADMIN%\n\tskip_install_trust\n\tauto_https disable_redirects", 1)
	port := freePort(t)
	port = port[strings.LastIndexByte(port, ':')+1:]
	s := newSite(t, up, strings.ReplaceAll(config, "%PORT%", port), secrets...)
	s.start()
	as := func(c certificate, method, path, body string) (status int, text string) {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true,
			Certificates:       []tls.Certificate{{Certificate: [][]byte{c.cert.Raw}, PrivateKey: c.key}},
		}}}
		defer client.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), method, "https://localhost:"+port+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"Anthropic-Version": {"2023-06-01"}, "Content-Type": {"application/json"}}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(data)
	}
	eventually(t, "Caddy has its own certificate", 20*time.Second, func() bool {
		conn, err := tls.Dial("tcp", "localhost:"+port, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{{Certificate: [][]byte{ann.cert.Raw}, PrivateKey: ann.key}}})
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	if status, text := as(eve, http.MethodPost, "/v1/messages", hello); status != http.StatusOK {
		t.Errorf("eve: %d %s", status, text)
	}
	if status, text := as(eve, http.MethodPost, "/v1/messages", hello); status != http.StatusTooManyRequests {
		t.Errorf("eve again: %d %s", status, text)
	}
	if status, text := as(ann, http.MethodPost, "/v1/messages", hello); status != http.StatusBadRequest || !strings.Contains(text, "claude-haiku-*") {
		t.Errorf("ann's other model: %d %s", status, text)
	}
	if status, text := as(ann, http.MethodGet, "/usage?by=person", ""); status != http.StatusOK || !strings.Contains(text, `"CN=eve"`) {
		t.Errorf("ann, an admin, sees %d %s", status, text)
	}
	if status, text := as(eve, http.MethodGet, "/usage?by=person", ""); status != http.StatusOK || strings.Contains(text, `"CN=ann"`) {
		t.Errorf("eve sees %d %s", status, text)
	}
}

// certificate is one with its key.
type certificate struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func authority(t *testing.T, name string) certificate {
	return sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, certificate{})
}

func (ca certificate) issue(t *testing.T, name string) certificate {
	return sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature}, ca)
}

func sign(t *testing.T, template *x509.Certificate, by certificate) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if by.cert == nil {
		by = certificate{template, key}
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return certificate{cert, key}
}
