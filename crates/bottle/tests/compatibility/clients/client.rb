# VERSION URL [BODY]: with Net::HTTP.
require "net/http"

_, url, body = ARGV
uri = URI(url)
response = body ? Net::HTTP.post(uri, File.binread(body)) : Net::HTTP.get_response(uri)
puts "HTTP/#{response.http_version}", response.body
