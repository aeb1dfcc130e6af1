# VERSION URL [BODY]: with HTTP::Tiny, which verifies certificates from 0.083 on or where it is told to.
use strict;
use warnings;
use HTTP::Tiny;

my (undef, $url, $body) = @ARGV;
my $content = do { local (@ARGV, $/) = $body ? $body : "/dev/null"; <> };
my $client = HTTP::Tiny->new(verify_SSL => 1);
my $response = $body ? $client->post($url, { content => $content }) : $client->get($url);
print "$response->{protocol}\n" if $response->{protocol};
print "$response->{content}\n";
