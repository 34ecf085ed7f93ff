# Random sequences of what happens to alerts and to those who send them, against a
# small independent model of the outbox, compared after each step: incidents
# come, get worse and go, are silenced; receivers refuse, stall and are switched
# off; senders die with what they have claimed, or come too late with what they
# know; leases end, messages are given up and tried anew, delivery is disarmed
# and armed.  The clock is the test's, and the senders are sessions of their own.
#
# SMARTBOX_SEED=N repeats a run, SMARTBOX_STEPS=N makes it longer.
use strict;
use warnings;
use JSON::PP;
use List::Util qw(any max min);
use Smartbox::Cluster;
use Smartbox::Session;
use Test::More;

my $seed = $ENV{SMARTBOX_SEED} // time ^ $$;
my $steps = $ENV{SMARTBOX_STEPS} // 400;
srand($seed);
note("seed $seed");

my $clock = 4102444800;    # 2100-01-01, far from that of the wall
my %rank = (low => 1, medium => 2, high => 3, critical => 4);
my @severities = sort { $rank{$a} <=> $rank{$b} } keys %rank;

my $node = Smartbox::Cluster->launch('outbox', 'autovacuum = off');
my $people = Smartbox::Session->new($node, 'people');
my $epoch = '2024-01-15 10:00+00';

# ---------------------------------------------------------------------------
# The model
# ---------------------------------------------------------------------------

my %receivers = (
	all => { kind => 'webhook', from => 'low', enabled => 1 },
	worst => { kind => 'observability', from => 'high', enabled => 1 },
	team => { kind => 'webhook', from => 'low', enabled => 1, services => { s0 => 1 } });
my @services = map { { name => "s$_", minute => 0, silence => '' } } 0 .. 2;
my $armed = 1;
my %alerts;        # "incident number" => { type, severity, silenced }
my %deliveries;    # "incident number receiver" => a row
my %confirmed;     # incidents that were
my %times;         # how often things happened

# Somebody is told of an incident, unless it is silenced.
sub raise_alert
{
	my ($service, $type, $severity, $silenced) = @_;
	my $incident = $service->{incident};
	my $number = ++$incident->{alerts};

	$alerts{"$incident->{id} $number"} = { type => $type, severity => $severity, silenced => $silenced };
	$incident->{told} = 1 if !$silenced;
	foreach my $name (keys %receivers)
	{
		my $receiver = $receivers{$name};
		my $passes = $type eq 'incident_resolved'
		  ? (any { $deliveries{"$incident->{id} $_ $name"} } 1 .. $number - 1)
		  : $receiver->{enabled} && $rank{$severity} >= $rank{ $receiver->{from} }
		  && (!$receiver->{services} || $receiver->{services}{ $service->{name} });

		$deliveries{"$incident->{id} $number $name"} = {
			incident => $incident->{id}, number => $number, receiver => $name, type => $type, severity => $severity,
			status => $silenced ? 'skipped' : 'pending', attempts => 0, due => $silenced ? '' : $clock, lease => '', ends => $clock + 86400 }
		  if $passes;
	}
	return;
}

sub detected
{
	my ($service, $severity, $id) = @_;
	my $incident = $service->{incident};
	my $silenced = $service->{silence} ne '';

	if (!$incident)
	{
		$service->{incident} = { id => $id, severity => $severity, alerts => 0, open => 0, told => 0, held => 0 };
		return;
	}
	my $worse = $rank{$severity} > $rank{ $incident->{severity} };
	$incident->{severity} = $severity if $worse;
	if (!$incident->{open} || $worse || ($incident->{held} && !$silenced))
	{
		$incident->{open} = $confirmed{ $incident->{id} } = 1;
		raise_alert($service, 'anomaly_detected', $severity, $silenced);
		$incident->{held} = $silenced;
	}
	return;
}

sub gone
{
	my ($service) = @_;
	my $incident = $service->{incident};

	raise_alert($service, 'incident_resolved', $incident->{severity}, !$incident->{told}) if $incident && $incident->{open};
	$service->{incident} = undef;
	return;
}

# The other deliveries of the same incident to the same receiver.
sub others
{
	my ($row, $which) = @_;
	return grep { $which->($_->{number} <=> $row->{number}) }
	  grep { $_->{incident} eq $row->{incident} && $_->{receiver} eq $row->{receiver} && $_ != $row } values %deliveries;
}

sub is_due { return $_[0]{due} ne '' && $_[0]{due} <= $clock }

# What is too old is given up.
sub give_up
{
	foreach my $row (grep { is_due($_) && $_->{ends} <= $clock } values %deliveries)
	{
		@$row{qw(status due lease)} = ('dead', '', '');
		$times{'given up'}++;
	}
	return;
}

# Ends of what nobody was told of are left out.
sub leave_out
{
	my ($name) = @_;

	foreach my $row (grep { $_->{receiver} eq $name && is_due($_) && $_->{status} eq 'pending' && $_->{type} eq 'incident_resolved' && !$_->{attempts} } values %deliveries)
	{
		next if any { $_->{due} ne '' || $_->{status} =~ /sent|dead/ } others($row, sub { $_[0] < 0 });
		@$row{qw(status due)} = ('skipped', '');
		$times{'end of what nobody knew'}++;
	}
	return;
}

# What may be sent: nothing before it is to be.
sub sendable
{
	my ($name) = @_;

	return grep {
		my $row = $_;
		$row->{receiver} eq $name && is_due($row) && !any { $_->{due} ne '' } others($row, sub { $_[0] < 0 })
	} values %deliveries;
}

# ---------------------------------------------------------------------------
# Comparing
# ---------------------------------------------------------------------------

my @story;

sub agrees
{
	my ($step) = @_;
	my $have = $people->say(q{SELECT incident_id || ' ' || alert_number || ' ' || receiver || ' ' || status || ' ' || attempts || ' '
		|| coalesce(round(extract(epoch FROM next_attempt_at), 3)::text, '-') || ' ' || coalesce(round(extract(epoch FROM leased_until), 3)::text, '-')
		FROM smartbox.deliveries ORDER BY incident_id, receiver, alert_number;
		SELECT '+ ' || incident_id || ' ' || alert_number || ' ' || alert_type || ' ' || severity || ' ' || (silence_id IS NOT NULL)::int
		FROM smartbox.alerts ORDER BY incident_id, alert_number;});
	my @want = map { join ' ', @$_{qw(incident number receiver status attempts)}, map { $_ eq '' ? '-' : sprintf '%.3f', $_ } @$_{qw(due lease)} }
	  sort { $a->{incident} cmp $b->{incident} || $a->{receiver} cmp $b->{receiver} || $a->{number} <=> $b->{number} } values %deliveries;
	push @want, map { "+ $_ $alerts{$_}{type} $alerts{$_}{severity} " . ($alerts{$_}{silenced} ? 1 : 0) }
	  map { $_->[0] } sort { $a->[1] cmp $b->[1] || $a->[2] <=> $b->[2] } map { [ $_, split / / ] } keys %alerts;
	my $want = join "\n", @want;

	return 1 if $have eq $want;
	my %have = map { $_ => 1 } split /\n/, $have;
	my %want = map { $_ => 1 } @want;
	fail("step $step: $story[-1]");
	diag("seed $seed\nonly in the database:\n" . join("\n", grep { !$want{$_} } sort keys %have)
		  . "\nonly in the model:\n" . join("\n", grep { !$have{$_} } sort keys %want) . "\nstory:\n" . join("\n", @story[ max(0, $#story - 30) .. $#story ]));
	return 0;
}

# Rows that were written by the clock on the wall go by the test's.
sub on_our_clock
{
	return "UPDATE smartbox.deliveries SET next_attempt_at = CASE WHEN next_attempt_at IS NOT NULL THEN to_timestamp($clock) END, "
	  . "give_up_at = to_timestamp($clock) + interval '1 day' WHERE give_up_at < '2099-01-01';";
}

# ---------------------------------------------------------------------------
# What happens
# ---------------------------------------------------------------------------

my (%keys, %named, %received, @broken);
my %senders;

sub sender
{
	my ($name) = @_;
	return $senders{$name} //= { session => Smartbox::Session->new($node, $name), claims => [] };
}

# A receiver is sent a message.  What it has seen before comes under the same
# key, and nothing comes after what follows it.
sub receive
{
	my ($row, $key, $body, $accepted) = @_;
	my $what = "$row->{incident} $row->{number} $row->{receiver}";
	my $message = decode_json($body);

	$message = $message->[0] if ref $message eq 'ARRAY';
	my $incident = $message->{incident_id} // $message->{anomalies}[0]{metadata}{incident_id};
	push @broken, "$what has two keys" if ($keys{$what} //= $key) ne $key;
	push @broken, "$what has the key of $named{$key}" if ($named{$key} //= $what) ne $what;
	push @broken, "$what is a message about $incident" if $incident ne $row->{incident};
	push @broken, "$what is an $message->{alert_type}" if $message->{alert_type} ne $row->{type};
	push @broken, "$what is about a suspicion" if !$confirmed{$incident};
	push @broken, "$what is silenced" if $alerts{"$row->{incident} $row->{number}"}{silenced};
	push @broken, "$what is sent while delivery is not armed" if !$armed;
	if ($accepted)
	{
		my $seen = $received{"$row->{incident} $row->{receiver}"} //= [];
		push @broken, "$what comes after $seen->[-1]" if @$seen && $seen->[-1] > $row->{number};
		push @$seen, $row->{number};
		$times{'received twice'}++ if @$seen > 1 && $seen->[-2] == $row->{number};
	}
	return;
}

# Claim some of what may be sent; returns rows with the key and the body of each.
sub claim
{
	my ($name, $to) = @_;
	my $sender = sender($name);
	my $most = (1, 3, 50)[ rand 3 ];

	leave_out($to) if $receivers{$to}{enabled};
	my @can = $receivers{$to}{enabled} ? sendable($to) : ();
	my @claimed = map { [ split /\t/, $_, 4 ] } split /\n/, $sender->{session}->say(
		"SELECT concat_ws(E'\\t', incident_id, alert_number, idempotency_key, body) FROM smartbox.claim_deliveries('$to', to_timestamp($clock), $most);");
	my @rows = map { $deliveries{"$_->[0] $_->[1] $to"} // die "nobody knows $_->[0] $_->[1] $to" } @claimed;
	my %can = map { $_ => 1 } @can;
	my ($worst_left) = sort { $b <=> $a } 0, map { $rank{ $_->{severity} } } grep { my $row = $_; !any { $_ == $row } @rows } @can;

	push @broken, "$to was to have " . min($most, scalar @can) . ' messages, not ' . @rows if @rows != min($most, scalar @can);
	push @broken, "$_->{incident} $_->{number} $to must wait" foreach grep { !$can{$_} } @rows;
	push @broken, "$_->{incident} $_->{number} $to is sent before what is worse" foreach grep { $rank{ $_->{severity} } < $worst_left } @rows;
	return map { [ $rows[$_], @{ $claimed[$_] }[ 2, 3 ] ] } 0 .. $#rows;
}

# A sender writes down what became of a message, if it is still its own.
sub record
{
	my ($session, $row, $lease, $outcome, $error) = @_;
	my $mine = $row->{status} eq 'sending' && $row->{lease} == $lease;

	$session->say("SELECT FROM smartbox.record_delivery((SELECT service FROM smartbox.incidents WHERE incident_id = '$row->{incident}'), '$row->{incident}', "
		  . "$row->{number}, '$row->{receiver}', to_timestamp($lease), '$outcome', '$error', '0', to_timestamp($clock));");
	if (!$mine)
	{
		$times{'came too late'}++;
		return;
	}
	$row->{lease} = '';
	@$row{qw(status due)} = ($outcome, '');
	if ($outcome eq 'retry')
	{
		my $pause = min(10 * 2**min($row->{attempts} - 1, 10), 900);

		@$row{qw(status due)} = ('pending', $people->say("SELECT round(extract(epoch FROM next_attempt_at), 6) FROM smartbox.deliveries WHERE incident_id = '$row->{incident}'
			AND alert_number = $row->{number} AND receiver = '$row->{receiver}';"));
		push @broken, "a pause of " . ($row->{due} - $clock) . " s after attempt $row->{attempts}"
		  if $row->{due} < $clock + 0.5 * $pause || $row->{due} > $clock + 1.5 * $pause;
	}
	return;
}

# A sender looks for something to send to a receiver, and what happens then.
sub deliver
{
	my ($name, $to, $fate) = @_;
	my $sender = sender($name);
	my $obstacle = $sender->{session}->say('SELECT smartbox.delivery_obstacle() IS NOT NULL;');

	push @broken, "delivery is armed: $armed, and there is an obstacle: $obstacle" if ($obstacle eq 't') == $armed;
	return if !$armed;
	$sender->{session}->say("SELECT FROM smartbox.expire_deliveries(to_timestamp($clock));");
	give_up();
	if ($fate eq 'dies before it commits')
	{
		$sender->{session}->say("BEGIN; SELECT FROM smartbox.claim_deliveries('$to', to_timestamp($clock), 50);");
		stop_sender($name);
		return;
	}
	my @claims = claim($name, $to);
	foreach my $claim (@claims)
	{
		my ($row) = @$claim;
		@$row{qw(status due lease)} = ('sending', $clock + 120, $clock + 120);
		$row->{attempts}++;
	}
	$times{$fate} += @claims;
	foreach my $claim (@claims)
	{
		my ($row, $key, $body) = @$claim;
		my $arrives = $fate =~ /^(accepts|refuses|fails)$/ || rand() < 0.5;

		receive($row, $key, $body, $fate !~ /refuses|fails/) if $arrives;
		if ($fate eq 'stalls')
		{
			push @{ $sender->{claims} }, [ $row, $row->{lease}, $arrives ];
		}
		elsif ($fate ne 'dies')
		{
			record($sender->{session}, $row, $row->{lease}, @{ { accepts => [ 'sent', '' ], refuses => [ 'dead', 'HTTP status 422' ], fails => [ 'retry', 'HTTP status 500' ] }->{$fate} });
		}
	}
	stop_sender($name) if $fate eq 'dies';
	return;
}

# Its server process goes, with whatever it was doing.
sub stop_sender
{
	my ($name) = @_;

	$people->say("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = '$name';");
	(delete $senders{$name})->{session}->end;
	$times{'sessions that ended'}++;
	return;
}

sub detect
{
	my ($service, $severity) = @_;
	my $is_anomaly = $severity ne '';

	# One that is over is not opened again, so that incidents have one beginning.
	$service->{minute} += $service->{incident} ? 1 : 40;
	my $id = $people->say("INSERT INTO smartbox.detections (service, ts, is_anomaly, payload) VALUES ('$service->{name}', "
		  . "'$epoch'::timestamptz + $service->{minute} * interval '1 minute', " . ($is_anomaly ? 'true' : 'false')
		  . ", '{\"anomalies\": [" . ($is_anomaly ? qq({"name": "slow", "severity": "$severity"}) : '') . "]}') RETURNING coalesce(payload #>> '{anomalies,0,metadata,incident_id}', '-');"
		  . on_our_clock());
	return $is_anomaly ? detected($service, $severity, $id) : gone($service);
}

sub arm
{
	my ($send_queued) = @_;

	$people->say('SELECT FROM arm_delivery(' . ($send_queued ? 'true' : 'false') . ');');
	if (!$armed && !$send_queued)
	{
		@$_{qw(status due lease)} = ('skipped', '', ''), $times{'left out when armed'}++ foreach grep { $_->{due} ne '' } values %deliveries;
	}
	$armed = 1;
	return;
}

sub redeliver
{
	my ($to) = @_;

	$people->say("SELECT FROM redeliver_alerts('$to');" . on_our_clock());
	foreach my $row (grep { $_->{receiver} eq $to && $_->{status} eq 'dead' } values %deliveries)
	{
		next if any { $_->{status} =~ /sending|sent/ } others($row, sub { $_[0] > 0 });
		@$row{qw(status due attempts ends)} = ('pending', $clock, 0, $clock + 86400);
		# A later one may have arrived without anybody having written that down.
		delete $received{"$row->{incident} $to"};
		$times{'tried anew'}++;
	}
	return;
}

sub step
{
	my $service = $services[ rand @services ];
	my $to = (sort keys %receivers)[ rand keys %receivers ];
	my $name = 'sender' . int(rand 2);
	my $dice = rand;

	if (!$armed && rand() < 0.1)
	{
		arm(rand() < 0.6);
		push @story, 'armed';
	}
	elsif ($dice < 0.24)
	{
		my $severity = rand() < 0.75 ? $severities[ rand @severities ] : '';
		push @story, "$service->{name}: " . ($severity || 'quiet');
		detect($service, $severity);
	}
	elsif ($dice < 0.62)
	{
		my $fate = (('accepts') x 4, ('fails') x 2, ('refuses') x 2, ('stalls') x 6, 'dies', 'dies before it commits')[ rand 16 ];
		push @story, "$name sends to $to, which is or does: $fate";
		deliver($name, $to, $fate);
	}
	elsif ($dice < 0.73)
	{
		my $claim = shift @{ sender($name)->{claims} } or return step();
		my ($row, $lease, $arrived) = @$claim;
		push @story, "$name is done with $row->{incident} $row->{number} $row->{receiver}";
		record($senders{$name}{session}, $row, $lease, $arrived ? ('sent', '') : ('retry', 'timed out'));
	}
	elsif ($dice < 0.86)
	{
		my $passes = (1 + int(rand 30), 60, 121, 121, 1200, rand() < 0.2 ? 90000 : 5)[ rand 6 ];
		push @story, "$passes s pass";
		$clock += $passes;
	}
	elsif ($dice < ($service->{silence} ? 0.91 : 0.875))
	{
		push @story, "$service->{name} is " . ($service->{silence} ? 'no longer ' : '') . 'silenced';
		$service->{silence} = $service->{silence}
		  ? ($people->say("SELECT FROM unsilence('$service->{silence}');"), '')[-1]
		  : $people->say("SELECT silence('$service->{name}', until => now() + interval '1 day')->>'silence_id';");
		$times{silences}++;
	}
	elsif ($dice < ($receivers{$to}{enabled} ? 0.92 : 0.95))
	{
		$receivers{$to}{enabled} = 1 - $receivers{$to}{enabled};
		push @story, "$to is enabled: $receivers{$to}{enabled}";
		$people->say("UPDATE smartbox.receivers SET enabled = ($receivers{$to}{enabled} = 1) WHERE receiver = '$to';");
	}
	elsif ($dice < 0.97)
	{
		push @story, "what is dead is sent to $to anew";
		redeliver($to);
	}
	elsif ($armed && rand() < 0.3)
	{
		push @story, 'disarmed';
		$people->say('SELECT FROM disarm_delivery();');
		$armed = 0;
	}
	elsif (!$armed || rand() < 0.1)
	{
		my $send_queued = rand() < 0.6;
		push @story, 'armed' . ($send_queued ? ', what is queued is sent' : '');
		arm($send_queued);
	}
	return;
}

$people->say(q{
	UPDATE smartbox.service_categories SET confirmation_cycles = 2, resolution_grace_cycles = 1, flapping_openings = 1000;
	INSERT INTO smartbox.receivers (receiver, kind, url, min_severity, services, max_per_minute) VALUES
		('all', 'webhook', 'http://127.0.0.1:1', 'low', NULL, NULL), ('worst', 'observability', 'http://127.0.0.1:1', 'high', NULL, NULL),
		('team', 'webhook', 'http://127.0.0.1:1', 'low', '{s0}', NULL);
	INSERT INTO smartbox.services (service) SELECT 's' || n FROM generate_series(0, 2) AS n;
	SELECT FROM arm_delivery();});

my $agreed = 0;
foreach my $number (1 .. $steps)
{
	step();
	agrees($number) or last;
	if (@broken)
	{
		fail("step $number: $story[-1]");
		diag("seed $seed\n" . join("\n", @broken) . "\nstory:\n" . join("\n", @story[ max(0, $#story - 30) .. $#story ]));
		last;
	}
	$agreed++;
}
is($agreed, $steps, "outbox and model agree at each of $steps steps (seed $seed)");

# ---------------------------------------------------------------------------
# In the end everything works again, and everything arrives
# ---------------------------------------------------------------------------

if ($agreed == $steps)
{
	push @story, 'all is well';
	arm(1);
	$people->say('UPDATE smartbox.receivers SET enabled = true WHERE NOT shipped;');
	$_->{enabled} = 1 foreach values %receivers;
	foreach my $service (@services)
	{
		$people->say("SELECT FROM unsilence('$service->{silence}');") if $service->{silence};
		$service->{silence} = '';
		detect($service, $_) foreach '', 'high', 'high';
	}
	my $turns = 0;
	while ((grep { $_->{due} ne '' } values %deliveries) && $turns++ < 200)
	{
		deliver('sender0', $_, 'accepts') foreach sort keys %receivers;
		$clock += 901;
	}
	ok(agrees('the last'), 'outbox and model agree in the end');
	is_deeply(\@broken, [], 'and nothing was out of order, under another key, or about a suspicion');
	is_deeply([ grep { $_->{due} ne '' } values %deliveries ], [], 'nothing waits');
	is_deeply([ map { "$_->{incident} $_->{number} $_->{receiver}" } grep { $_->{status} eq 'sent' && !$keys{"$_->{incident} $_->{number} $_->{receiver}"} } values %deliveries ], [],
		'what counts as sent has arrived');
	cmp_ok(scalar(grep { $_->{status} eq 'sent' } values %deliveries), '>=', @services, 'and that is something');
}
note(join ', ', map { "$_: $times{$_}" } sort keys %times);
done_testing();
