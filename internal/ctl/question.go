package ctl

import (
	"encoding/json"
	"net/http"
	"net/url"
)

// A Question is one request to fnatd, for Client.Copy: what the methods of a
// Client ask, with the answer left as it is.
type Question struct {
	method, path string // path with the query
	body         []byte
}

// Get asks for what stands at a path, which may end in a query.
func Get(path string) Question { return Question{method: http.MethodGet, path: path} }

// Post asks for a change, or for an answer that takes more than a path to ask
// for. The body is sent as it is if it is bytes, and as JSON otherwise; nil is none.
func Post(path string, body any) Question {
	q := Question{method: http.MethodPost, path: path}
	switch body := body.(type) {
	case nil:
	case []byte:
		q.body = body
	default:
		q.body, _ = json.Marshal(body) // of our own types, which can be
	}
	return q
}

// DiffQuestion asks what would change if the configuration toml, from a file of
// this name, were put in force; without toml, what a reload would change.
func DiffQuestion(name string, toml []byte) Question {
	if toml == nil {
		return Post(PathDiff, nil)
	}
	if len(toml) == 0 {
		toml = []byte("\n") // an empty body would ask about fnatd's own file
	}
	return Post(PathDiff+"?"+url.Values{"name": {name}}.Encode(), toml)
}
