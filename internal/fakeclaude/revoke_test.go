package fakeclaude_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-shunt/caddy-shunt/internal/fakeclaude"
)

func TestRevocation(t *testing.T) {
	w := start(t, fakeclaude.Options{})
	revoke := func(kind, body string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/v1/oauth/token/revoke", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", kind)
		resp, err := w.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	const form = "application/x-www-form-urlencoded"
	w.equal("not a form", revoke("application/json", `{"token":"`+renewB+`","client_id":"x"}`), 400)
	w.equal("no client", revoke(form, "token="+renewB), 400)
	w.equal("another hint", revoke(form, "client_id=x&token_type_hint=id_token&token="+renewB), 400)
	w.equal("a token that is not known", revoke(form, "client_id=x&token=nobody"), 200)
	w.equal("so far all is well", w.do(call{bearer: tokenB, body: ask(modelID, false, "x")}).StatusCode, 200)
	w.equal("revoked", revoke(form, "client_id=x&token_type_hint=refresh_token&token="+renewB), 200)
	w.equal("its access token", w.do(call{bearer: tokenB, body: ask(modelID, false, "x")}).StatusCode, 401)
	w.equal("its refresh token", w.refresh(renewB).get("error").String(), "invalid_grant")
	w.equal("another account", w.do(call{bearer: tokenA, body: ask(modelID, false, "x")}).StatusCode, 200)
	w.equal("an access token", revoke(form, "client_id=x&token_type_hint=access_token&token="+tokenA), 200)
	w.equal("that access token", w.do(call{bearer: tokenA, body: ask(modelID, false, "x")}).StatusCode, 401)
}
