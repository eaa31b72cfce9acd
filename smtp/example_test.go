package smtp_test

import (
	"crypto/rand"
	"fmt"

	"github.com/postrider/postrider/smtp"
)

// Both ends of SCRAM-SHA-256. What a server keeps of a password are its keys; the
// password itself is not sent, and each end proves to the other that it knows it.
func Example_scram() {
	keys, err := smtp.NewSCRAMKeys("pencil", []byte("sixteen octets.."), 60_000)
	if err != nil {
		panic(err)
	}
	server := smtp.SCRAMServer(smtp.SCRAMServerOptions{
		Rand: rand.Reader,
		Keys: func(user string) smtp.SCRAMKeys { return keys },
		Finish: func(identity, user string, proved bool) smtp.Reply {
			if !proved {
				return smtp.Reply{Code: 535, Status: smtp.Status{Class: 5, Subject: 7, Detail: 8}, Text: "No"}
			}
			return smtp.Reply{Code: 235, Status: smtp.Status{Class: 2, Subject: 7}, Text: "Welcome " + user}
		},
	})
	client := smtp.SCRAMClient(smtp.SCRAMClientOptions{User: "tim", Password: "pencil", Rand: rand.Reader})

	response, err := client.Start()
	for err == nil {
		challenge, done, reply := server.Next(response)
		if done {
			fmt.Println(reply)
			break
		}
		response, err = client.Next(challenge)
	}
	fmt.Println("the server is proved:", err == nil && client.(smtp.SASLProver).Proved())
	// Output:
	// 235 2.7.0 Welcome tim
	// the server is proved: true
}
