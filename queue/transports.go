package queue

import (
	"context"

	"github.com/postrider/postrider"
	"github.com/postrider/postrider/smtp"
)

// errorTransport refuses with the reply of the route. Only a 5yz is final.
type errorTransport struct{}

func (errorTransport) Deliver(_ context.Context, d *postrider.Delivery) []postrider.Outcome {
	o := postrider.Outcome{Reply: d.Route.Reply}
	if o.Reply.Permanent() {
		o.Result = postrider.ResultFailed
	}
	return same(o, len(d.Rcpts))
}

// discardTransport delivers to nobody.
type discardTransport struct{}

func (discardTransport) Deliver(_ context.Context, d *postrider.Delivery) []postrider.Outcome {
	return same(postrider.Outcome{
		Result: postrider.ResultDelivered, Final: true,
		Reply: smtp.Reply{Code: 250, Status: smtp.Status{Class: 2}, Text: "Discarded, as the route says"},
	}, len(d.Rcpts))
}

func same(o postrider.Outcome, n int) []postrider.Outcome {
	all := make([]postrider.Outcome, n)
	for i := range all {
		all[i] = o
	}
	return all
}
