# Every statement of docs/objectives-and-dependencies.md works as it stands
# there, in order, and what it says comes out does.
use strict;
use warnings;
use Smartbox::Cluster;
use Smartbox::Page;
use Test::More;

my $node = Smartbox::Cluster->launch('objectives');
my $page = Smartbox::Page->open('docs/objectives-and-dependencies.md');

cmp_ok(scalar(grep { $_->[0] eq 'output' } $page->blocks), '>', 5, 'the page says what comes out');
$page->run($node, 'shop');

is($node->safe_psql('shop', q{SELECT payload #>> '{anomalies,0,metadata,suspected_root_cause,service}' FROM smartbox.alerts WHERE service = 'search'}),
	'catalog', 'the alert says the suspected root cause');
is($node->safe_psql('shop', q{SELECT string_agg(alert_type || ' ' || severity, ', ' ORDER BY alert_number) FROM smartbox.alerts WHERE service = 'booking'}),
	'anomaly_detected critical', 'nobody was told of what was acceptable');

done_testing();
