package dataplane

import (
	"github.com/fnatd/fnatd/internal/packet"
	"github.com/fnatd/fnatd/lb"
)

// pick chooses the real server of a new connection, of that inbound flow: the one that the
// client's network is persisted to, or the scheduler's.
func (w *Worker) pick(svc *Service, f *packet.Flow) *lb.Server {
	if svc.persistence == 0 {
		return svc.PickFor(&f.Src, f.SrcPort)
	}
	who := svc.PersistenceKey(f.Src)
	if server := w.persisted(svc, who); server != nil {
		return server
	}
	server := svc.PickFor(&f.Src, f.SrcPort)
	if server != nil {
		w.persist(svc, who, server)
	}
	return server
}

// persisted returns the real server that who is persisted to, or nil, and renews
// the template. A template whose server takes no new connections is removed:
// weight 0 drains, even of clients that keep coming back.
func (w *Worker) persisted(svc *Service, who packet.Addr) *lb.Server {
	k := w.conns.TemplateKey(svc.Proto, who, svc.Virtual)
	s := w.conns.Lock(k)
	defer s.Unlock()
	c := s.FindTemplate(k, svc.Proto, who, svc.Virtual)
	if c == nil {
		return nil
	}
	t := w.view.targets[c.Binding()]
	if t.Gone || !t.Server.Available() {
		s.Remove(c)
		return nil
	}
	s.Touch(c, svc.persistence, w.now)
	return t.Server
}

// persist remembers that who goes to server. Without room for the template the
// connection is made all the same.
func (w *Worker) persist(svc *Service, who packet.Addr, server *lb.Server) {
	if !w.reserve() {
		return
	}
	k := w.conns.TemplateKey(svc.Proto, who, svc.Virtual)
	s := w.conns.Lock(k)
	defer s.Unlock()
	if s.FindTemplate(k, svc.Proto, who, svc.Virtual) != nil { // another worker was quicker
		w.conns.Release()
		return
	}
	if _, why := s.InsertTemplate(k, who, svc.bindings[server.Index], svc.persistence, w.now); why != packet.Kept {
		w.conns.Release()
		return
	}
	w.counts.Events[TemplateCreated]++
}
