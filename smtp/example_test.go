package smtp_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"

	"github.com/postrider/postrider/smtp"
)

// What a client sends, read as a server reads it: what is wrong is a Reply, ready to be
// sent.
func Example() {
	offered := smtp.ExtSize | smtp.Ext8BitMIME
	for _, line := range []string{
		"MAIL FROM:<alice@example.com> SIZE=1000 BODY=8BITMIME",
		"mail from:<>",
		"MAIL FROM:<alice@example.com> RET=HDRS",
		"MAIL FROM:alice@example.com",
		"MAIL\x00",
	} {
		c, no := smtp.ParseCommand([]byte(line))
		if no != nil {
			fmt.Println(no)
			continue
		}
		from, params, no := smtp.ParseMail(c.Arg, offered)
		if no != nil {
			fmt.Println(no)
			continue
		}
		fmt.Printf("%s from <%s>, %d octets\n", c.Verb, from, params.Size)
	}
	// Output:
	// MAIL from <alice@example.com>, 1000 octets
	// MAIL from <>, 0 octets
	// 555 5.5.4 The parameter RET is not known here
	// 501 5.5.4 The address stands between < and >
	// 500 5.5.2 A command holds no control characters
}

// A message between SMTP and its dot stream (RFC 5321 4.5.2).
func ExampleDotWriter() {
	var wire bytes.Buffer
	w := bufio.NewWriter(&wire)
	dots := smtp.NewDotWriter(w)
	if _, err := io.WriteString(dots, "one\r\n.two\r\n"); err != nil {
		panic(err)
	}
	if err := dots.Close(); err != nil {
		panic(err)
	}
	w.Flush()
	fmt.Printf("%q\n", wire.String())
	content, err := io.ReadAll(smtp.NewDotReader(bufio.NewReader(&wire)))
	fmt.Printf("%q %v\n", content, err)
	// Output:
	// "one\r\n..two\r\n.\r\n"
	// "one\r\n.two\r\n" <nil>
}

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
