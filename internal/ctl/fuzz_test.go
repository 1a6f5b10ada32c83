package ctl

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzServer sends anything to any path: the answer is JSON, and an error is 400
// to 499.
func FuzzServer(f *testing.F) {
	for path := range NewServer(&fakeBackend{}).(*server).routes {
		f.Add("GET", path, "", "")
		f.Add("POST", path, "", "{}")
	}
	f.Add("GET", PathConnections, "service=web&client=10.0.0.0/8&state=udp&limit=3", "")
	f.Add("GET", PathExplain, "protocol=tcp&client=[::1]:1&virtual=1.2.3.4:5", "")
	f.Add("POST", PathDiff, "name=lb.toml", "[daemon]")
	f.Add("POST", PathDrain, "", `{"server":"10.0.2.11","seconds":1e308,"undo":true}`)
	f.Add("POST", PathEdit, "", `{"edits":[{"op":"add_service","protocol":"tcp","virtual":"1.2.3.4:5","service":{"scheduler":"rr"}},{"op":"clear"}]}`)
	h := NewServer(&fakeBackend{conns: connections(3), services: []Service{{Name: "web"}}})
	f.Fuzz(func(t *testing.T, method, path, query, body string) {
		r := httptest.NewRequest(http.MethodGet, "/", strings.NewReader(body))
		r.Method, r.URL.Path, r.URL.RawQuery = method, path, query
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if !json.Valid(w.Body.Bytes()) || w.Code != 200 && w.Code/100 != 4 {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
}
