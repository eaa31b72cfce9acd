package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// logReader is the name that the log has in the feed of the spool.
const logReader = "log"

// journalReader is the name that the journal has there.
const journalReader = "journal"

// refused takes down what was not taken. It never waits.
func (n *Node) refused(e postrider.Event) {
	n.journal.Refuse(e)
	n.metrics.Event(e)
	logEvent(context.Background(), n.env.Log, e)
}

// follow reads the feed of the spool: one line of the log for each change of
// fate, and the metrics. It ends with ctx or the spool.
func (n *Node) follow(ctx context.Context) {
	for e, err := range n.spool.Feed(ctx, logReader) {
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, postrider.ErrClosed) {
				n.env.Log.Error("the feed of the spool ended: no more lines about mail", "error", err)
			}
			return
		}
		n.metrics.Event(e)
		logEvent(ctx, n.env.Log, e)
	}
}

// logEvent writes the line of an event, with the keys that mail people search
// for.
func logEvent(ctx context.Context, log *slog.Logger, e postrider.Event) {
	from := "<" + e.From.String() + ">"
	switch e.Kind {
	case postrider.EventAccepted:
		log.LogAttrs(ctx, slog.LevelInfo, "accepted", slog.String("id", string(e.ID)), slog.String("from", from),
			slog.Int("rcpts", len(e.Tos)), slog.Int64("size", e.Size), slog.String("listener", e.Source.Listener),
			slog.String("client", clientOf(e.Source)), slog.String("helo", e.Source.Hello), slog.String("proto", e.Source.Protocol))
	case postrider.EventRecipient:
		status := statusOf(e.State)
		attrs := []slog.Attr{slog.String("id", string(e.ID)), slog.String("from", from),
			slog.String("to", "<"+e.To.String()+">"), slog.String("relay", relayOf(e)),
			slog.String("delay", delayOf(e)), slog.String("dsn", dsnOf(e)), slog.String("status", status),
			slog.Int("tries", e.Tries), slog.String("reply", e.Reply.Text)}
		if e.State == postrider.Waiting {
			attrs = append(attrs, slog.Time("next", e.Next))
		}
		log.LogAttrs(ctx, slog.LevelInfo, "recipient", attrs...)
	case postrider.EventReported:
		log.LogAttrs(ctx, slog.LevelInfo, "reported", slog.String("id", string(e.ID)), slog.String("from", from),
			slog.String("report", string(e.Report)))
	case postrider.EventAmended:
		log.LogAttrs(ctx, slog.LevelInfo, "amended", slog.String("id", string(e.ID)), slog.String("from", from),
			slog.String("to", "<"+e.To.String()+">"), slog.String("do", amendOf(e.Amend)))
	case postrider.EventRefused:
		to := ""
		if len(e.Tos) > 0 {
			to = "<" + e.Tos[0].String() + ">"
		}
		log.LogAttrs(ctx, slog.LevelInfo, "refused", slog.String("from", from), slog.String("to", to),
			slog.String("listener", e.Source.Listener), slog.String("client", clientOf(e.Source)), slog.String("helo", e.Source.Hello),
			slog.String("dsn", dsnOf(e)), slog.Int("code", e.Reply.Code), slog.String("reply", e.Reply.Text))
	case postrider.EventRemoved:
		log.LogAttrs(ctx, slog.LevelInfo, "removed", slog.String("id", string(e.ID)))
	case postrider.EventDamaged:
		log.LogAttrs(ctx, slog.LevelError, "damaged: set aside what could not be read",
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

func relayOf(e postrider.Event) string {
	if e.Remote != "" {
		return e.Remote
	}
	return string(e.Dest)
}

func delayOf(e postrider.Event) string {
	if e.Arrived.IsZero() {
		return "0s"
	}
	return max(0, e.Time.Sub(e.Arrived)).Round(time.Millisecond).String()
}

// dsnOf is the status code of the reply, or X.0.0 of its class where the peer
// gave none.
func dsnOf(e postrider.Event) string {
	s := e.Reply.Status
	if s.IsZero() {
		s = smtp.Status{Class: map[postrider.State]uint8{postrider.Delivered: 2, postrider.Waiting: 4, postrider.Failed: 5}[e.State]}
	}
	return s.String()
}
