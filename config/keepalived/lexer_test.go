package keepalived

import (
	"strings"
	"testing"
)

func TestTokens(t *testing.T) {
	for line, want := range map[string]string{
		"real_server 10.0.0.1 80 {": "real_server|10.0.0.1|80|<",
		"real_server 10.0.0.1 80{":  "real_server|10.0.0.1|80|<",
		"{ weight 1 }":              "<|weight|1|>",
		"{weight 1}}":               "<|weight|1|>|>",
		"regex ^[0-9]{3}$":          "regex|^[0-9]{3}$",
		`notify_up "a { b" 'c }'`:   "notify_up|a { b|c }",
		`misc_path "it's" it's`:     "misc_path|it's|it's",
		"url { path / }":            "url|<|path|/|>",
		`a"b"c`:                     "a|b|c",
		"":                          "",
	} {
		all, closed := tokens(line)
		var got []string
		for _, tok := range all {
			switch {
			case tok.is("{"):
				got = append(got, "<")
			case tok.is("}"):
				got = append(got, ">")
			default:
				got = append(got, tok.text)
			}
		}
		if s := strings.Join(got, "|"); s != want || !closed {
			t.Errorf("%s: got %s, closed %t, want %s", line, s, closed, want)
		}
	}
	if _, closed := tokens(`virtualhost "www`); closed {
		t.Error("an open quote is not noticed")
	}
}

func TestUncomment(t *testing.T) {
	for line, want := range map[string]string{
		"weight 1 # one":  "weight 1 ",
		"! all of it":     "",
		`path "/a#b" # c`: `path "/a#b" `,
		"weight 1":        "weight 1",
	} {
		if got := uncomment(line); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}
