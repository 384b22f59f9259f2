filedesc://a.arc 0.0.0.0 20260102030405 text/plain 20
1 0 Someone
URL IP

http://s/1 1.2.3.4 20260102030405 text/plain 55
HTTP/1.1 200 OK
Content-Type: text/plain

text numb
