package health

import (
	"context"
	"fmt"

	"github.com/miekg/dns"
)

// DNS is the check that a name server answers a query without an error.
type DNS struct {
	Name string
	Type string // of record: A, SOA …
	TCP  bool   // ask by TCP
}

func (d *DNS) String() string { return "dns " + d.Type + " " + d.Name }

// Probe implements Probe.
func (d *DNS) Probe(ctx context.Context, to Endpoint) (Result, error) {
	network := "udp"
	if d.TCP {
		network = "tcp"
	}
	raw, err := to.dial(ctx, network)
	if err != nil {
		return Result{}, err
	}
	defer raw.Close()
	if err := deadline(ctx, raw); err != nil {
		return Result{}, err
	}
	question := new(dns.Msg)
	question.SetQuestion(dns.Fqdn(d.Name), dns.StringToType[d.Type])
	conn := &dns.Conn{Conn: raw, UDPSize: dns.MinMsgSize}
	if err := conn.WriteMsg(question); err != nil {
		return Result{}, plain(err)
	}
	for {
		answer, err := conn.ReadMsg()
		switch {
		case err != nil && answer == nil:
			return Result{}, plain(err)
		case err != nil:
			return Result{}, fmt.Errorf("not an answer in DNS: %w", err)
		case answer.Id != question.Id && !d.TCP:
			continue // the late answer to another question, or a forged one
		case !answer.Response || answer.Id != question.Id:
			return Result{}, fmt.Errorf("not an answer to the query")
		case answer.Rcode != dns.RcodeSuccess:
			return Result{}, fmt.Errorf("answer is %s", dns.RcodeToString[answer.Rcode])
		}
		return Result{}, nil
	}
}
