package shunt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// caddyAuthority begins the names of what Caddy's own certificate authority signs
// with, unless it was configured to be called otherwise.
const caddyAuthority = "Caddy Local Authority"

func lookupWords(host string, err error) string {
	var failed *net.DNSError
	if errors.As(err, &failed) && failed.IsNotFound {
		return fmt.Sprintf("nobody knows the name %s; is it spelled right, and are you in the network (VPN) in which it is known?", host)
	}
	return fmt.Sprintf("looking up %s failed: %v", host, err)
}

func dialWords(address string, err error) string {
	var slow net.Error
	switch {
	case refused(err):
		return "nothing listens at " + address + "; is the port right, and is Caddy running?"
	case errors.As(err, &slow) && slow.Timeout():
		return "nothing answered at " + address + fmt.Sprintf(" for %v; a firewall may be in between, or the address is not reachable from here", connectStep)
	}
	return fmt.Sprintf("connecting to %s failed: %v", address, err)
}

// requestWords are for a request that got no answer.
func requestWords(host string, err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "the connection was made, but no answer came in time; something in between may hold it back"
	case isTLS(err):
		return tlsWords(host, err)
	}
	return fmt.Sprintf("the connection broke before the answer: %v", err)
}

func isTLS(err error) bool {
	var untrusted *tls.CertificateVerificationError
	var notTLS tls.RecordHeaderError
	var alert tls.AlertError
	return errors.As(err, &untrusted) || errors.As(err, &notTLS) || errors.As(err, &alert) || strings.Contains(err.Error(), "tls: ")
}

// tlsWords say what is wrong with a handshake, and what helps.
func tlsWords(host string, err error) string {
	var notTLS tls.RecordHeaderError
	var wrongName x509.HostnameError
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var slow net.Error
	switch {
	case errors.As(err, &notTLS):
		return "what listens there does not speak TLS; is it http:// or another port?"
	case errors.As(err, &wrongName):
		return fmt.Sprintf("the certificate is not for %s but for %s; is this the right name?", host, namesOf(wrongName.Certificate))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the certificate is good from %s to %s, and the clock here says %s", dated(invalid.Cert.NotBefore), dated(invalid.Cert.NotAfter), dated(time.Now()))
	case errors.As(err, &unknown):
		return untrustedWords(err)
	case errors.As(err, &slow) && slow.Timeout():
		return fmt.Sprintf("it listens, but the TLS handshake did not end within %v", connectStep)
	case strings.Contains(err.Error(), "certificate required"):
		return "the server asks for a certificate of the client's own"
	case strings.Contains(err.Error(), "tls: internal error"):
		return "the server has no certificate for " + host + "; is that the site's address in the Caddyfile?"
	}
	return fmt.Sprintf("the TLS handshake failed: %v", err)
}

// untrustedWords are for a certificate that nobody who is trusted here has signed.
func untrustedWords(err error) string {
	var failed *tls.CertificateVerificationError
	if !errors.As(err, &failed) || len(failed.UnverifiedCertificates) == 0 {
		return "the certificate is not trusted here: " + err.Error()
	}
	const trust = "On this machine NODE_EXTRA_CA_CERTS=<root.crt> makes Claude Code, the TypeScript SDK and this command trust it, SSL_CERT_FILE=<root.crt> the SDKs for Python and Go"
	for _, cert := range failed.UnverifiedCertificates {
		if strings.HasPrefix(cert.Issuer.CommonName, caddyAuthority) {
			return "the certificate is of the Caddy's own authority, which this machine does not trust. Get its root certificate (pki/authorities/local/root.crt in the Caddy's data folder). " +
				trust + ". On the machine where the Caddy runs, `caddy trust` makes the system trust it"
		}
	}
	return fmt.Sprintf("the certificate is of %s, which this machine does not trust. If it is your company's authority, get its root certificate. %s", issuerName(failed.UnverifiedCertificates[0]), trust)
}

func dated(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

func issuerName(cert *x509.Certificate) string {
	for _, name := range append([]string{cert.Issuer.CommonName}, cert.Issuer.Organization...) {
		if name != "" {
			return name
		}
	}
	return "somebody without a name"
}

func namesOf(cert *x509.Certificate) string {
	names := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}

// notShuntWords are for an answer that no pool gives.
func notShuntWords(address string, reply *connectReply) string {
	kind, _, _ := strings.Cut(reply.header.Get("Content-Type"), ";")
	what := fmt.Sprintf("status %d", reply.status)
	if kind != "" {
		what += ", " + kind
	}
	switch {
	case reply.status >= 300 && reply.status < 400 && reply.header.Get("Location") != "":
		target := reply.header.Get("Location")
		return fmt.Sprintf("%s sends elsewhere: %s. Clients do not follow with their key; give the URL that it leads to, without the path of this test", address, target)
	case reply.status == http.StatusUnauthorized || reply.status == http.StatusForbidden:
		return fmt.Sprintf("something else lets people in at %s (%s), before shunt is reached; clients send it no password", address, what)
	case reply.status == http.StatusBadGateway || reply.status == http.StatusGatewayTimeout || reply.status == http.StatusServiceUnavailable:
		return fmt.Sprintf("a proxy answered at %s in shunt's place (%s): what is behind it cannot be reached", address, what)
	case strings.HasPrefix(errorMessage(reply.body), "nothing is served at this path"):
		return fmt.Sprintf("there is a Caddy with shunt, but no pool at %s; is the path right?", address)
	}
	return fmt.Sprintf("what answers at %s is not shunt (%s); is the URL that of the pool's site?", address, what)
}

// refusalWords are for what the pool refused, in its own words and ours.
func refusalWords(reply *connectReply, whose, model string) string {
	said := fmt.Sprintf("status %d", reply.status)
	if message := errorMessage(reply.body); message != "" {
		said += ": " + message
	}
	switch reply.status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Sprintf("asked %s, and it was not let in. %s", whose, said)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, 529:
		words := "let in " + whose + ", but nothing can be served just now. " + said
		if after := reply.header.Get("Retry-After"); after != "" {
			words += " (again in " + after + " s)"
		}
		return words
	case http.StatusBadRequest, http.StatusNotFound:
		return fmt.Sprintf("let in %s, but not served with the model %s (--model names another). %s", whose, model, said)
	}
	return "let in " + whose + ", but not served. " + said
}
