package ipvsadm

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"github.com/fnatd/fnatd/internal/ctl"
)

// ops are the edits that commands stand for.
var ops = map[command]ctl.EditOp{
	addService: ctl.AddService, editService: ctl.EditService, deleteService: ctl.DeleteService, clear: ctl.Clear,
	addServer: ctl.AddServer, editServer: ctl.EditServer, deleteServer: ctl.DeleteServer,
	addLocal: ctl.AddLocal, deleteLocal: ctl.DeleteLocal, zero: ctl.Zero,
}

// edit returns the edit that r asks for.
func (r *request) edit() (ctl.Edit, error) {
	e := ctl.Edit{Op: ops[r.command], Protocol: r.protocol, Virtual: r.virtual}
	switch r.command {
	case addService, editService:
		if r.virtual.Port() == 0 {
			if !r.has[persistent] {
				return e, usage("Zero port specified for non-persistent service")
			}
			return e, usage("fnatd balances single ports: name one")
		}
		e.Service = &r.service
	case addServer, editServer:
		e.Real, e.Server = r.real, &r.server
	case deleteServer:
		e.Real = r.real
	case addLocal, deleteLocal:
		e.Local = r.local
	}
	return e, nil
}

// edit carries out one edit.
func (p *program) edit(e ctl.Edit) error {
	done, err := p.Server.Edit(p.ctx, []ctl.Edit{e})
	if err == nil && len(done.Refused) > 0 {
		err = errors.New(refusal(&e, &done.Refused[0]))
	}
	return err
}

// refusal says in ipvsadm's words why an edit was refused.
func refusal(e *ctl.Edit, r *ctl.Refusal) string {
	ofServer := e.Op == ctl.AddServer || e.Op == ctl.EditServer || e.Op == ctl.DeleteServer
	switch r.Code {
	case ctl.NoService:
		if ofServer {
			return "Service not defined"
		}
		return "No such service"
	case ctl.ServiceExists:
		return "Service already exists"
	case ctl.NoScheduler:
		return "Scheduler or persistence engine not found"
	case ctl.ServerExists:
		return "Destination already exists"
	case ctl.NoServer:
		return "No such destination"
	}
	return r.Error
}

// maxLine is how long a line of rules may be.
const maxLine = 64 << 10

// restore carries out the rules on standard input, all in one step. As ipvsadm it
// goes on after a rule that is refused, and stops at a blank line and at one that
// it does not understand.
func (p *program) restore() error {
	var edits []ctl.Edit
	var wrong error
	lines := bufio.NewScanner(p.Stdin)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		args := strings.Fields(text)
		if len(args) > 0 && args[0] == "ipvsadm" {
			args = args[1:]
		}
		if strings.TrimSpace(lines.Text()) == "" {
			break
		}
		if len(args) == 0 { // a comment
			continue
		}
		var r *request
		if r, wrong = p.parse(args); wrong != nil {
			break
		}
		if _, changes := ops[r.command]; !changes {
			wrong = p.tryHelp()
			break
		}
		var e ctl.Edit
		if e, wrong = r.edit(); wrong != nil {
			break
		}
		edits = append(edits, e)
	}
	if err := lines.Err(); err != nil {
		wrong = &failure{exitMissing, fmt.Sprint("standard input: ", err)}
	}
	if len(edits) == 0 {
		return wrong
	}
	done, err := p.Server.Edit(p.ctx, edits)
	if err != nil {
		return err
	}
	for _, r := range done.Refused {
		fmt.Fprintln(p.Stderr, refusal(&edits[r.Edit], &r))
	}
	if n := len(done.Refused); wrong == nil && n > 0 && done.Refused[n-1].Edit == len(edits)-1 {
		return &failure{exitRefused, ""} // its exit code is that of the last rule
	}
	return wrong
}

// idle returns how long an established connection of s may be idle by default.
func idle(s *ctl.Service, t *ctl.Timeouts) float64 {
	if s.Protocol == "udp" {
		return t.UDP
	}
	return t.Established
}

// save prints the rules that make the services what they are. Without -n it has
// names in them.
func (p *program) save(r *request) error {
	services, err := p.sortedServices(r)
	if err != nil {
		return err
	}
	locals, err := p.localsOf()
	if err != nil {
		return err
	}
	all, err := p.Server.Stats(p.ctx)
	if err != nil {
		return err
	}
	for i := range services {
		s := &services[i]
		name := fmt.Sprintf("-%c %s", s.Protocol[0], p.name(s.Virtual, s.Protocol, r))
		fmt.Fprintf(p.out, "-A %s -s %s", name, s.Scheduler)
		if s.PersistenceSeconds > 0 {
			fmt.Fprintf(p.out, " -p %.0f", s.PersistenceSeconds)
			if m := mask(s); m != "" {
				fmt.Fprintf(p.out, " -M %s", m)
			}
		}
		if f := flagsOf(s); f != "" {
			fmt.Fprintf(p.out, " -b %s", f)
		}
		if s.EstablishedSeconds != idle(s, &all.Timeouts) {
			fmt.Fprintf(p.out, " -V %.0f", s.EstablishedSeconds)
		}
		if s.SYNProxy == "on" || s.SYNProxy == "adaptive" {
			fmt.Fprint(p.out, " -j enable")
		}
		fmt.Fprintln(p.out)
		for _, d := range s.Servers {
			if !d.Sorry { // which is not for ipvsadm to set, nor is how the others are now
				fmt.Fprintf(p.out, "-a %s -r %s -b -w %d\n", name, p.name(d.Real, s.Protocol, r), d.Configured)
			}
		}
		for _, l := range locals[s.LocalPool] {
			fmt.Fprintf(p.out, "-P %s -z %s\n", name, l.Address)
		}
	}
	return nil
}
