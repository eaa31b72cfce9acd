listener "mx" { address = "127.0.0.1:2525" }
oauth {
  issuer        = ""
  audience      = ["a"]
  keys          = "/pw"
  claim         = ""
  configuration = "http://id.example"
  isuer         = "x"
}
