// Package sse holds shunt's parser of event streams against two that others wrote:
// tmaxmax/go-sse, which follows the standard, and the reader of Anthropic's Go SDK.
//
//	go test .
//	go test -fuzz FuzzAgainstOthers -fuzztime 1m .
package sse
