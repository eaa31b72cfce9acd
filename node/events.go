package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/admin"
)

// logReader is the name that the log has in the feed of the spool.
const logReader = "log"

// journalReader is the name that the journal has there.
const journalReader = "journal"

// refused takes down what was not taken. It never waits.
func (n *Node) refused(e postrider.Event) {
	n.journal.Refuse(e)
	n.metrics.Event(&e)
	logEvent(context.Background(), n.env.Log, &e)
}

// readFeed begins to read the feed of the spool: the journal, the metrics, and one
// line of the log for each change of fate. They end with ctx or the spool.
func (n *Node) readFeed(ctx context.Context) {
	n.feed.Go(func() { n.keepReading(ctx, logReader, func(heard func()) error { return n.follow(ctx, heard) }) })
	n.feed.Go(func() {
		n.keepReading(ctx, journalReader, func(heard func()) error {
			return n.journal.Run(ctx, func(yield func([]postrider.Event, error) bool) {
				for evs, err := range n.store.Batches(ctx, journalReader) {
					if err == nil {
						heard()
					}
					if !yield(evs, err) {
						return
					}
				}
			})
		})
	})
}

// follow tells the log and the metrics of each event, and returns why the feed
// ended.
func (n *Node) follow(ctx context.Context, heard func()) error {
	for evs, err := range n.store.Batches(ctx, logReader) {
		if err != nil {
			return err
		}
		heard()
		n.tell(ctx, evs)
	}
	return nil
}

// tell writes the lines of a batch at once.
func (n *Node) tell(ctx context.Context, evs []postrider.Event) {
	n.env.Lines.Hold()
	defer n.env.Lines.Release()
	for i := range evs {
		n.metrics.Event(&evs[i])
		logEvent(ctx, n.env.Log, &evs[i])
	}
}

// Waits between attempts to read the feed of the spool again.
const (
	feedRetryMin = time.Second
	feedRetryMax = time.Minute
)

// keepReading reads the feed of the spool until ctx ends or the spool is closed.
// Read goes on where the reader has acknowledged, calls heard for what comes, and
// returns when the feed ends; an error is told, each once, and read is called
// again after a while.
func (n *Node) keepReading(ctx context.Context, reader string, read func(heard func()) error) {
	pause, told := feedRetryMin, ""
	for {
		err := read(func() {
			if told != "" {
				n.env.Log.Info("the feed of the spool is read again", "reader", reader)
			}
			pause, told = feedRetryMin, ""
		})
		if err == nil || ctx.Err() != nil || errors.Is(err, postrider.ErrClosed) {
			return
		}
		if err.Error() != told {
			told = err.Error()
			n.env.Log.Error("the feed of the spool cannot be read: it will be tried again, and nothing of it is lost meanwhile",
				"reader", reader, "error", err)
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		pause = min(2*pause, feedRetryMax)
	}
}

// logEvent writes the line of an event, with the keys that mail people search
// for.
func logEvent(ctx context.Context, log *slog.Logger, e *postrider.Event) {
	from := "<" + e.From.String() + ">"
	switch e.Kind {
	case postrider.EventAccepted:
		attrs := []slog.Attr{slog.String("id", string(e.ID)), slog.String("from", from),
			slog.Int("rcpts", e.Given), slog.Int64("size", e.Size), slog.String("listener", e.Source.Listener),
			slog.String("client", clientOf(e.Source)), slog.String("helo", e.Source.Hello), slog.String("proto", e.Source.Protocol),
			slog.String("account", e.Source.Account)}
		if e.Has != e.Given {
			attrs = append(attrs, slog.Int("expanded", e.Has)) // aliases stand for so many
		}
		if e.Priority != 0 {
			attrs = append(attrs, slog.Int("priority", int(e.Priority))) // RFC 6710 4.1: it "SHOULD be logged"
		}
		logLine(ctx, log, slog.LevelInfo, "accepted", attrs...)
	case postrider.EventRecipient:
		status := statusOf(e.State)
		attrs := []slog.Attr{slog.String("id", string(e.ID)), slog.String("from", from),
			slog.String("to", "<"+e.To.String()+">"), slog.String("relay", relayOf(e)),
			slog.String("delay", delayOf(e)), slog.String("dsn", dsnOf(e)), slog.String("status", status),
			slog.Int("tries", e.Tries), slog.String("reply", e.Reply.Text)}
		if e.State == postrider.Waiting {
			attrs = append(attrs, slog.Time("next", e.Next))
		}
		logLine(ctx, log, slog.LevelInfo, "recipient", attrs...)
	case postrider.EventReported:
		logLine(ctx, log, slog.LevelInfo, "reported", slog.String("id", string(e.ID)), slog.String("from", from),
			slog.String("report", string(e.Report)))
	case postrider.EventAmended:
		logLine(ctx, log, slog.LevelInfo, "amended", slog.String("id", string(e.ID)), slog.String("from", from),
			slog.String("to", "<"+e.To.String()+">"), slog.String("do", amendOf(e.Amend)))
	case postrider.EventOrdered:
		logLine(ctx, log, slog.LevelInfo, "ordered", slog.String("id", string(e.ID)), slog.String("from", from),
			slog.String("to", "<"+e.To.String()+">"), slog.String("do", amendOf(e.Amend)))
	case postrider.EventRefused:
		if admin.LoginRefused(e) {
			logLine(ctx, log, slog.LevelInfo, "login refused", slog.String("account", e.Source.Account),
				slog.String("listener", e.Source.Listener), slog.String("client", clientOf(e.Source)), slog.String("helo", e.Source.Hello),
				slog.String("dsn", dsnOf(e)), slog.Int("code", e.Reply.Code), slog.String("reply", e.Reply.Text))
			return
		}
		to := ""
		if len(e.Tos) > 0 {
			to = "<" + e.Tos[0].String() + ">"
		}
		logLine(ctx, log, slog.LevelInfo, "refused", slog.String("from", from), slog.String("to", to),
			slog.String("listener", e.Source.Listener), slog.String("client", clientOf(e.Source)), slog.String("helo", e.Source.Hello),
			slog.String("dsn", dsnOf(e)), slog.Int("code", e.Reply.Code), slog.String("reply", e.Reply.Text))
	case postrider.EventRemoved:
		logLine(ctx, log, slog.LevelInfo, "removed", slog.String("id", string(e.ID)))
	case postrider.EventDamaged:
		logLine(ctx, log, slog.LevelError, "damaged: set aside what could not be read",
			slog.String("id", string(e.ID)), slog.String("what", e.Reply.Text))
	}
}

// amendOf is what an operator wanted, in the words of the commands.
func amendOf(a postrider.Amend) string {
	switch a {
	case postrider.AmendHold:
		return "hold"
	case postrider.AmendRelease, postrider.AmendPass:
		return "release"
	case postrider.AmendBounce:
		return "bounce"
	case postrider.AmendDrop:
		return "drop"
	}
	return "retry"
}

func clientOf(s postrider.Source) string {
	if !s.Peer.IsValid() {
		return "local"
	}
	return s.Peer.String()
}

// statusOf is what an attempt came to, in the words of the results.
func statusOf(s postrider.State) string {
	if s == postrider.Waiting {
		return postrider.ResultDeferred.String()
	}
	return s.String()
}

func relayOf(e *postrider.Event) string {
	if e.Remote != "" {
		return e.Remote
	}
	return string(e.Dest)
}

func delayOf(e *postrider.Event) string {
	if e.Arrived.IsZero() {
		return "0s"
	}
	return max(0, e.Time.Sub(e.Arrived)).Round(time.Millisecond).String()
}

// dsnOf is the status code of the reply, or X.0.0 of its class where the peer
// gave none.
func dsnOf(e *postrider.Event) string {
	s := e.Reply.Status
	if s.IsZero() {
		switch e.State {
		case postrider.Delivered:
			s.Class = 2
		case postrider.Waiting:
			s.Class = 4
		case postrider.Failed:
			s.Class = 5
		}
	}
	return s.String()
}

// logLine writes one line. Where in the program it was written is of no use in it,
// and not looked for.
func logLine(ctx context.Context, log *slog.Logger, level slog.Level, text string, attrs ...slog.Attr) {
	h := log.Handler()
	if !h.Enabled(ctx, level) {
		return
	}
	r := slog.NewRecord(time.Now(), level, text, 0)
	r.AddAttrs(attrs...)
	h.Handle(ctx, r) // an error is nobody's
}
