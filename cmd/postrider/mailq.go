package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/postrider/postrider/admin"
)

// mailq lists the queue as programs and people know it from other servers: "*"
// marks what is under way, "!" what is held.
func (a *app) mailq() error {
	messages, err := a.messages(admin.Filter{})
	if err != nil {
		return err
	}
	count, octets := 0, int64(0)
	for m, err := range messages {
		if err != nil {
			return fmt.Errorf("read the queue: %w", err)
		}
		if count == 0 {
			a.printf("-Queue ID-           --Size-- ---Arrival Time--- -Sender/Recipient-------\n")
		}
		count++
		octets += m.Size
		from := strings.Map(visible, m.From)
		if from == "" {
			from = "MAILER-DAEMON"
		}
		mark := map[string]string{admin.StateActive: "*", admin.StateHeld: "!"}[m.State]
		a.printf("%-21s%8d %s %s\n", string(m.ID)+mark, m.Size, m.Arrived.Local().Format(time.DateTime), from)
		for _, r := range m.Recipients {
			if r.State == admin.StateDelivered || r.State == admin.StateFailed {
				continue
			}
			if r.Reply != "" {
				a.printf("%42s(%s)\n", "", r.Reply)
			}
			a.printf("%50s%s\n", "", strings.Map(visible, r.To))
		}
		a.printf("\n")
	}
	if count == 0 {
		a.printf("Mail queue is empty\n")
		return nil
	}
	a.printf("-- %d Kbytes in %s.\n", (octets+1023)/1024, plural(count, "Request", "Requests"))
	return nil
}
