listener "mx" { address = "127.0.0.1:2525" }
domain "bücher.example" {}
domain "XN--BCHER-KVA.example" {}
route "Bücher.Example" { via = "hold" }
