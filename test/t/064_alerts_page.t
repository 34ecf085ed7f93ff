# Every statement of docs/alerts-and-receivers.md works as it stands there, and
# what it says comes out does.
use strict;
use warnings;
use JSON::PP;
use Smartbox::Cluster;
use Smartbox::FakeHttpServer;
use Test::More;

my $folder = "$ENV{SMARTBOX_WORK}/alerts-page";
my $fake = Smartbox::FakeHttpServer->start;
my $node = Smartbox::Cluster->launch('page', "shared_preload_libraries = 'pg_cron'", "cron.database_name = 'shop'");
my %address = (
	'http://127.0.0.1:9093' => $fake->url('oncall'),
	'https://chat.example.com/hooks/alerts' => $fake->url('chat'),
	'http://127.0.0.1:8000' => $fake->url('observability'),
	'/etc/smartbox' => $folder);

mkdir $folder or die $!;
open my $token, '>', "$folder/chat-token" or die $!;
print $token "secret-of-chat\n";
close $token;
chmod 0600, "$folder/chat-token";
$fake->answer($_) foreach qw(oncall chat observability);
$node->safe_psql('shop', q{CREATE EXTENSION pg_cron; INSERT INTO smartbox.services (service) VALUES ('booking-api')});

open my $page, '<', 'docs/alerts-and-receivers.md' or die $!;
my @blocks = join('', <$page>) =~ /^```sql\n(.*?)^```$/msg;
close $page;
is(scalar @blocks, 6, 'the page has statements');

sub run_block
{
	my ($n) = @_;
	my $sql = $blocks[$n];
	my ($answer, $errors);

	foreach my $from (keys %address)
	{
		$sql =~ s/\Q$from\E/$address{$from}/g;
	}
	is($node->psql('shop', $sql, stdout => \$answer, stderr => \$errors, on_error_stop => 1), 0, (split /\n/, $sql)[0]) or diag($errors);
	unlike($errors, qr/NOTICE|WARNING|ERROR/, '... without a complaint');
	return $answer;
}

my $seconds = 0;

# Two cycles that confirm an incident.
sub detect
{
	my ($name, $severity) = @_;

	$seconds += 10;
	$node->safe_psql('shop', qq{
		INSERT INTO smartbox.detections (service, ts, is_anomaly, payload)
		SELECT 'booking-api', now() + ($seconds + n) * interval '1 s', true,
		    '{"anomalies": [{"name": "$name", "severity": "$severity"}]}' FROM generate_series(1, 2) AS n});
}

run_block(0);
detect('early', 'high');
is(run_block(1), "3\nchat||0|0|0|\nobservability||0|0|0|\noncall||0|0|0|", 'what was queued before is left out; all three are sent to')
  or diag($node->safe_psql('shop', 'TABLE smartbox.deliveries'));
is(scalar $fake->requests, 0, 'nothing was sent yet');
detect('late', 'medium');
$node->safe_psql('shop', 'CALL deliver_alerts()');
is_deeply([ sort map { "$_->{method} $_->{path}" } $fake->requests ],
	[ 'POST /chat', 'POST /observability/api/anomalies/batch', 'POST /oncall/api/v2/alerts' ], 'then each gets its alert, each its own way');
my ($to_chat) = $fake->requests('chat');
is($to_chat->{headers}{authorization}, 'Bearer secret-of-chat', 'with the token from its file');
like($to_chat->{headers}{'idempotency-key'}, qr/^smartbox-[0-9a-f]{32}$/, 'and a key');
is(decode_json($to_chat->{body})->{anomalies}[0]{name}, 'late', 'the payload as it is');
run_block(2);
$node->safe_psql('shop', q{SELECT cron.unschedule('deliver')});

$fake->answer('oncall', status => 400, body => 'unreadable');
detect('worse', 'high');
$node->safe_psql('shop', 'CALL deliver_alerts()');
like(run_block(3), qr/^booking-api\|incident_\w+\|1\|HTTP status 400: unreadable\n1$/, 'dead ones are there, and tried anew');
like(run_block(4), qr/^0$/, 'nothing is held');
run_block(5);
unlike($node->safe_psql('shop', 'SELECT t::text FROM smartbox.receivers AS t') . $node->safe_psql('shop', 'SELECT t::text FROM smartbox.deliveries AS t'),
	qr/secret-of-chat/, 'no table has the secret');

done_testing();
