listener "mx" { address = "127.0.0.1:2525" }
route "a.example" {
  via                     = "mx"
  connections             = 0
  messages_per_connection = "50"
  rate                    = 100
}
route "b.example" {
  via         = "maildir:mail/{user}"
  connections = 5
  rate        = "100/1m"
}
route "c.example" {
  via         = "smtp://gw.example"
  connections = 201
  rate        = "100"
}
route "d.example" {
  via  = "mx"
  rate = "0/1m"
}
route "e.example" {
  via  = "mx"
  rate = "100/min"
}
route "f.example" {
  via  = "mx"
  rate = "100/2d"
}
route "g.example" {
  via  = "mx"
  rate = "-5/1h"
}
route "h.example" {
  via  = "mx"
  rate = "99999999999999999999/1h"
}
route "i.example" {
  via  = "mx"
  rates = "100/1h"
}
