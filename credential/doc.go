// Package credential gives each request a credential that works, and keeps it
// working: API keys, long-lived setup tokens, and OAuth logins whose access
// tokens are refreshed ahead of their expiry.
//
// The rules it lives by come from one property of the token server: a refresh
// token is good for one use, and the answer to that use is the only copy of its
// successor. Hence one refresher at a time in the process (single flight) and in
// the cluster (storage lock), no cancelling of a refresh because a client left,
// storing before publishing, and no belief in "invalid_grant" before storage was
// read again.
//
// Secrets live in closures and every printing or encoding method
// is redacted. No error, event or status carries a secret or the body of an
// answer.
package credential
