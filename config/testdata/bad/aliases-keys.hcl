listener "mx" { address = "127.0.0.1:2525" }
domain "example.org" {
  aliases        = ""
  allow_programs = true
}
domain "example.net" {
  aliases        = ["/aliases"]
  allow_programs = "no"
  recipients     = "/users"
}
