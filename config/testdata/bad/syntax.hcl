hostname = "mx1.example.org
listener "mx" { address = "127.0.0.1:2525" }
