# VERSION URL [BODY]: with LWP, which reads the proxy's variables.
use strict;
use warnings;
use HTTP::Request;
use LWP::UserAgent;

my (undef, $url, $body) = @ARGV;
my $content = do { local (@ARGV, $/) = $body ? $body : "/dev/null"; <> };
my $client = LWP::UserAgent->new(env_proxy => 1);
my $response = $client->request(HTTP::Request->new($body ? "POST" : "GET", $url, [], $content));
print $response->protocol, "\n" if $response->protocol;
print $response->content, "\n";
