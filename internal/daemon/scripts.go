package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/fnatd/fnatd/lb"
	"github.com/fnatd/fnatd/lb/health"
)

// maxWaiting is how many scripts of a service may wait for the one that runs. A
// script that takes longer than servers take to change misses the oldest news.
const maxWaiting = 100

// maxScripts is how many run at a time.
const maxScripts = 64

// Lanes run the scripts of transitions: those of one service one after another,
// in the order in which things came about, of different services side by side.
type lanes struct {
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
	turns  chan struct{} // held by those that run: each costs a thread

	mu     sync.Mutex
	queues map[health.ID][]script // of those that have one running, what comes next
}

// A script is a command to run, and why.
type script struct {
	event   string
	service *lb.Service
	command health.Command
}

func newLanes(log *slog.Logger) *lanes {
	l := &lanes{log: log, queues: map[health.ID][]script{}, turns: make(chan struct{}, maxScripts)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// quorum runs the service's script for a gained or lost quorum, if it has one.
func (l *lanes) quorum(s *lb.Service, up bool, why string) {
	event, args := "quorum_down", s.Failover.Scripts.QuorumDown
	if up {
		event, args = "quorum_up", s.Failover.Scripts.QuorumUp
	}
	l.add(s, event, args, why)
}

// notify runs the script for a server that came up or went down, if there is one.
func (l *lanes) notify(s *lb.Service, server *lb.Server, up bool, why string) {
	event, args := "notify_down", server.NotifyDown
	if up {
		event, args = "notify_up", server.NotifyUp
	}
	l.add(s, event, args, why, "FNATD_REAL="+server.Real.String(),
		"FNATD_ADDRESS="+server.Real.Addr.String(), fmt.Sprint("FNATD_PORT=", server.Real.Port))
}

// omega runs the scripts for what goes down together with fnatd.
func (l *lanes) omega(s *lb.Service) {
	const why = "fnatd stops"
	for _, server := range s.Servers {
		if !server.Sorry && !server.Down {
			l.notify(s, server, false, why)
		}
	}
	if !s.NoQuorum {
		l.quorum(s, false, why)
	}
}

// add puts a script in its service's lane.
func (l *lanes) add(s *lb.Service, event string, args []string, why string, env ...string) {
	if len(args) == 0 {
		return
	}
	env = append(env, "FNATD_EVENT="+event, "FNATD_SERVICE="+s.Name, "FNATD_PROTOCOL="+protocol(s.Proto),
		"FNATD_VIRTUAL="+s.Virtual.String(), "FNATD_REASON="+why)
	c := script{event, s, health.Command{Args: args, User: s.Failover.Scripts.User, Env: env}}
	l.mu.Lock()
	defer l.mu.Unlock()
	id := healthID(s)
	waiting, runs := l.queues[id]
	if len(waiting) == maxWaiting {
		l.log.Error("script is too slow, one is left out", "service", s.Name, "event", waiting[0].event)
		waiting = waiting[1:]
	}
	if !runs {
		l.queues[id] = nil
		l.work.Go(func() { l.drive(id, c) })
		return
	}
	l.queues[id] = append(waiting, c)
}

// drive runs a script and those that wait for it.
func (l *lanes) drive(id health.ID, c script) {
	for more := true; more; {
		l.run(&c)
		l.mu.Lock()
		waiting := l.queues[id]
		if more = len(waiting) > 0; more {
			c, l.queues[id] = waiting[0], waiting[1:]
		} else {
			delete(l.queues, id)
		}
		l.mu.Unlock()
	}
}

func (l *lanes) run(c *script) {
	l.mu.Lock()
	parent := l.ctx
	l.mu.Unlock()
	l.turns <- struct{}{} // those that run end in time
	defer func() { <-l.turns }()
	limit := c.service.Failover.Scripts.Timeout
	ctx, cancel := context.WithTimeout(parent, limit)
	defer cancel()
	code, said, err := c.command.Run(ctx)
	log := l.log.With("service", c.service.Name, "event", c.event, "command", c.command.Args)
	switch {
	case parent.Err() != nil:
		log.Warn("script broken off, as fnatd stops")
	case ctx.Err() != nil:
		log.Error("script broken off", "after", limit)
	case err != nil:
		log.Error("script not run", "error", err)
	case code != 0:
		log.Error("script did not succeed", "exit code", code, "it said", said)
	default:
		log.Info("script has run", "it said", said)
	}
}

// stop ends what runs and forgets what waits. What is added after runs yet.
func (l *lanes) stop() {
	l.mu.Lock()
	for id := range l.queues {
		l.queues[id] = nil
	}
	l.cancel()
	l.mu.Unlock()
	l.work.Wait()
	l.mu.Lock()
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.mu.Unlock()
}

// wait returns when all has run.
func (l *lanes) wait() { l.work.Wait() }
