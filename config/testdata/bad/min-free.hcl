listener "mx" { address = "127.0.0.1:2525" }
limits { min_free = "1GB" }
