# Random sequences of detected, missed, no-data, late and repeated cycles, and of
# what people do between them, against a small independent model of the state
# table, compared after each step: incidents, events, alerts, and what the
# payload says.
#
# SMARTBOX_SEED=N repeats a run, SMARTBOX_STEPS=N makes it longer.
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use IPC::Run ();
use List::Util qw(any first max min uniq);
use Smartbox::Cluster;
use Test::More;

my $seed = $ENV{SMARTBOX_SEED} // time ^ $$;
my $steps = $ENV{SMARTBOX_STEPS} // 2500;
srand($seed);
note("seed $seed");

my $epoch = 1705312800;    # 2024-01-15 10:00 UTC, minute 0
my %rank = (low => 1, medium => 2, high => 3, critical => 4);
my %score = (low => '-0.05', medium => '-0.2', high => '-0.4', critical => '-0.7');

# ---------------------------------------------------------------------------
# The model: a service is its rules, the instants it has seen, its incidents
# ---------------------------------------------------------------------------

sub happened
{
	my ($incident, $event, $minute, $severity, $score) = @_;
	push @{ $incident->{events} }, join(' ', $event, $incident->{status}, $minute, $severity, $score);
	return;
}

sub told
{
	my ($incident, $type, $minute, $severity, $silence) = @_;
	push @{ $incident->{alerts} }, "$type $severity $minute" . ($silence ? " $silence" : '');
	return;
}

# The silence that covers an anomaly, the longest one.
sub silence_of
{
	my ($service, $minute, $incident, $anomaly) = @_;
	my %signals = map { $_ => 1 } $anomaly->{name}, @{ $anomaly->{signals} };
	my ($longest) = sort { $b->{until} <=> $a->{until} || $a->{id} cmp $b->{id} } grep {
		my $what = $_->{what};
		$_->{until} > $minute && ($what eq '' || $what eq $anomaly->{name} || $what eq $incident->{name})
	} @{ $service->{silences} };
	return $longest ? $longest->{id} : '';
}

# Somebody is to be told of an incident that is open, unless it is silenced.
sub announce
{
	my ($service, $incident, $anomaly, $minute, $waits) = @_;
	my $silence = silence_of($service, $minute, $incident, $anomaly);

	return if $waits && $silence;
	told($incident, $anomaly->{type}, $minute, $anomaly->{severity}, $silence);
	$incident->{held} = $silence ? 1 : 0;
	return;
}

# An incident becomes open: so many times within its window is flapping, of
# which the alerts tell once.
sub opened
{
	my ($service, $incident, $anomaly, $minute) = @_;
	my @before = sort { $b->{minute} <=> $a->{minute} }
	  grep { $_->{minute} > $minute - $service->{window} && $_->{incident}{name} eq $incident->{name} } @{ $service->{openings} };
	my $said = @before && $before[0]{incident}{flaps};

	push @{ $service->{openings} }, { minute => $minute, incident => $incident };
	$incident->{flaps} = @before + 1 >= $service->{openings_allowed} ? 1 : 0;
	@$incident{qw(opened held)} = ($minute, 0);
	if ($incident->{flaps} && $said)
	{
		$incident->{held} = 1;
	}
	else
	{
		announce($service, $incident, $anomaly, $minute);
	}
	return;
}

sub begin
{
	my ($service, $anomaly, $minute) = @_;
	my $fingerprint = 'anomaly_' . substr(sha256_hex("$service->{name}_$anomaly->{name}"), 0, 12);
	my $incident = {
		name => $anomaly->{name},
		id => 'incident_' . substr(sha256_hex($fingerprint . '_' . ($epoch + 60 * $minute) . '.000000'), 0, 12),
		status => 'SUSPECTED', severity => $anomaly->{severity}, times => 1, row => 1, missed => 0,
		first => $minute, last => $minute, evaluated => $minute, confirmed => '', resolved => '', reason => '',
		signals => { map { $_ => 1 } $anomaly->{name}, @{ $anomaly->{signals} } },
		opened => '', reopened => 0, flaps => 0, held => 0, events => [], alerts => [] };

	push @{ $service->{incidents} }, $incident;
	happened($incident, 'CREATE', $minute, $anomaly->{severity}, $score{ $anomaly->{severity} });
	if ($service->{confirmation} == 1)
	{
		@$incident{qw(status confirmed)} = ('OPEN', $minute);
		happened($incident, 'CONFIRM', $minute, $anomaly->{severity}, $score{ $anomaly->{severity} });
		opened($service, $incident, $anomaly, $minute);
	}
	return ($incident, 'CREATE');
}

sub detected
{
	my ($service, $incident, $anomaly, $minute) = @_;
	my $was = $incident->{status};
	my $worse = $rank{ $anomaly->{severity} } > $rank{ $incident->{severity} };
	my $event = 'CONTINUE';

	$incident->{times}++;
	$incident->{row} = $was eq 'CLOSED' ? 1 : $incident->{row} + 1;
	@$incident{qw(missed last evaluated)} = (0, $minute, $minute);
	$incident->{signals}{$_} = 1 foreach $anomaly->{name}, @{ $anomaly->{signals} };
	$incident->{severity} = $anomaly->{severity} if $worse;

	if ($was eq 'CLOSED')
	{
		$event = 'REOPEN';
		$incident->{reopened}++;
		@$incident{qw(status resolved reason)} = ('OPEN', '', '');
	}
	elsif ($was eq 'SUSPECTED' && $incident->{row} >= $service->{confirmation})
	{
		$event = 'CONFIRM';
		@$incident{qw(status confirmed)} = ('OPEN', $minute);
	}
	elsif ($was eq 'RECOVERING')
	{
		$incident->{status} = 'OPEN';
	}
	happened($incident, $event, $minute, $anomaly->{severity}, $score{ $anomaly->{severity} });

	my $escalates = $worse && ($was eq 'OPEN' || $was eq 'RECOVERING');
	happened($incident, 'ESCALATE', $minute, $anomaly->{severity}, $score{ $anomaly->{severity} }) if $escalates;
	if ($event ne 'CONTINUE')
	{
		opened($service, $incident, $anomaly, $minute);
	}
	elsif ($escalates)
	{
		announce($service, $incident, $anomaly, $minute);
	}
	elsif ($incident->{held} && (!$incident->{flaps} || $minute - $incident->{opened} >= $service->{separation}))
	{
		announce($service, $incident, $anomaly, $minute, 1);
	}
	return ($incident, $event);
}

sub max_text
{
	return (sort @_)[-1];
}

sub over
{
	my ($incident, $event, $reason, $minute) = @_;
	@$incident{qw(status resolved reason)} = ('CLOSED', $minute, $reason);
	happened($incident, $event, $minute, $incident->{severity}, $score{ $incident->{severity} });

	# Since it was opened: if nobody was told, nobody is; if somebody was,
	# whatever is silenced by now.
	my @since;
	foreach my $alert (@{ $incident->{alerts} })
	{
		@since = $alert =~ /^incident_resolved/ ? () : (@since, $alert);
	}
	if (@since)
	{
		my @silences = map { /(silence_\w+)$/ ? $1 : () } @since;
		told($incident, 'incident_resolved', $minute, $incident->{severity}, @silences == @since ? max_text(@silences) : '');
	}
	return;
}

sub missed
{
	my ($service, $incident, $minute) = @_;
	$incident->{missed}++;
	@$incident{qw(row evaluated)} = (0, $minute);
	if ($incident->{missed} == $service->{grace})
	{
		over($incident, $incident->{status} eq 'SUSPECTED' ? ('EXPIRE', 'suspected_expired') : ('RESOLVE', 'resolved'), $minute);
	}
	elsif ($incident->{status} eq 'OPEN')
	{
		$incident->{status} = 'RECOVERING';
		happened($incident, 'RECOVER', $minute, $incident->{severity}, $score{ $incident->{severity} });
	}
	return;
}

# How many incidents were not stale only because they were held meanwhile.
my $spared = 0;

# The minutes between two that nothing is known of: each cycle without data
# stands for the time since the cycle before it.
sub held
{
	my ($service, $since, $until) = @_;
	my ($held, $before) = (0, $since);

	foreach my $minute (sort { $a <=> $b } grep { $_ > $since && $_ < $until } keys %{ $service->{seen} })
	{
		$held += $minute - $before if $service->{seen}{$minute} eq 'no data';
		$before = $minute;
	}
	return $held;
}

# What a person closed less than its separation ago, and is not worse now.
sub closed_by_person
{
	my ($service, $anomaly, $minute) = @_;
	my ($closed) = sort {
		($b->{name} eq $anomaly->{name}) <=> ($a->{name} eq $anomaly->{name}) || $b->{resolved} <=> $a->{resolved} || $a->{id} cmp $b->{id}
	  } grep {
		my $candidate = $_;
		$candidate->{reason} eq 'closed_by_person' && $minute - $candidate->{resolved} < $service->{separation}
		  && any { $candidate->{signals}{$_} } $anomaly->{name}, @{ $anomaly->{signals} }
	  } @{ $service->{incidents} };
	return $closed && $rank{ $anomaly->{severity} } <= $rank{ $closed->{severity} } ? $closed : undef;
}

# One cycle; returns for each anomaly what became of it.
sub cycle
{
	my ($service, $minute, $no_data, @anomalies) = @_;
	my (%touched, %done, @said);

	return if exists $service->{seen}{$minute};
	$service->{seen}{$minute} = $no_data ? 'no data' : 'evaluated';
	return map { '' } @anomalies if $minute < $service->{newest};
	$service->{newest} = $minute;

	my @active = sort { $a->{first} <=> $b->{first} || $a->{id} cmp $b->{id} }
	  grep { $_->{status} ne 'CLOSED' } @{ $service->{incidents} };
	my %own = map { my $name = $_->{name}; map { $_->{id} => 1 } grep { $_->{name} eq $name } @active } @anomalies;

	foreach my $anomaly (@anomalies)
	{
		if (!$done{ $anomaly->{name} })
		{
			my @free = grep { !$touched{ $_->{id} } } @active;
			my $incident = first { $_->{name} eq $anomaly->{name} } @free;

			$incident //= first
			{
				my $candidate = $_;
				!$own{ $candidate->{id} } && any { $candidate->{signals}{$_} } $anomaly->{name}, @{ $anomaly->{signals} };
			} @free;
			my $unseen = $incident ? $minute - $incident->{last} : 0;
			my $is_stale = $incident && $unseen - held($service, $incident->{last}, $minute) > $service->{separation};
			$spared++ if !$is_stale && $unseen > $service->{separation};
			if ($is_stale)
			{
				$touched{ $incident->{id} } = 1;
				over($incident, 'EXPIRE', 'auto_stale', $minute);
				$done{ $anomaly->{name} } = [ begin($service, $anomaly, $minute) ];
			}
			elsif (!$incident && (my $closed = closed_by_person($service, $anomaly, $minute)))
			{
				$done{ $anomaly->{name} } = [ $closed, 'CLOSE' ];
			}
			else
			{
				$incident //= first { $_->{name} eq $anomaly->{name} && $_->{confirmed} ne '' && $_->{reason} ne 'auto_stale'
					  && $minute - $_->{resolved} < $service->{separation} }
				  sort { $b->{resolved} <=> $a->{resolved} || $a->{id} cmp $b->{id} }
				  grep { $_->{status} eq 'CLOSED' } @{ $service->{incidents} };
				$done{ $anomaly->{name} } = [ $incident ? detected($service, $incident, $anomaly, $minute) : begin($service, $anomaly, $minute) ];
			}
			my ($found, $action) = @{ $done{ $anomaly->{name} } };
			$touched{ $found->{id} } = 1;
			push @{ $done{ $anomaly->{name} } }, join(' ', $found->{id}, $action, $found->{status}, $found->{times});
		}
		push @said, $done{ $anomaly->{name} }[2];
	}
	if (!$no_data)
	{
		missed($service, $_, $minute) foreach grep { !$touched{ $_->{id} } } @active;
	}
	return @said;
}

sub picture
{
	my ($service) = @_;
	return join "\n", map {
		my $incident = $_;
		join(' ', @$incident{qw(id name status)}, $incident->{severity}, $score{ $incident->{severity} },
			@$incident{qw(times row missed first last evaluated)}, map({ $_ eq '' ? '-' : $_ } @$incident{qw(confirmed resolved reason opened)}),
			@$incident{qw(reopened flaps held)},
			join(',', sort keys %{ $incident->{signals} }))
		  . ' [' . join(', ', @{ $incident->{events} }) . '] [' . join(', ', @{ $incident->{alerts} }) . ']'
	} sort { $a->{first} <=> $b->{first} || $a->{id} cmp $b->{id} } @{ $service->{incidents} };
}

# ---------------------------------------------------------------------------
# The database
# ---------------------------------------------------------------------------

my $node = Smartbox::Cluster->launch('model', 'autovacuum = off');
my ($in, $out) = ('', '');
my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('shop') ], '<', \$in, '>', \$out, '2>&1', IPC::Run::timeout(600));

sub ask
{
	my ($statements) = @_;
	$in .= "$statements\n\\echo answered\n";
	$session->pump until $out =~ s/\A(.*?)^answered\n//ms;
	my $answer = $1;
	chomp $answer;
	return $answer;
}

ask(q{
	SET TimeZone = 'America/New_York';
	CREATE FUNCTION pg_temp.minute(ts timestamptz) RETURNS text LANGUAGE sql AS
	$$ SELECT coalesce(((extract(epoch FROM ts) - 1705312800) / 60)::int::text, '-') $$;
	CREATE FUNCTION pg_temp.picture(of_service text) RETURNS text LANGUAGE sql AS
	$$ SELECT string_agg(
		concat_ws(' ', incident_id, anomaly_name, status, severity, score, occurrence_count, consecutive_detections, missed_cycles,
			pg_temp.minute(first_seen), pg_temp.minute(last_seen), pg_temp.minute(last_evaluated),
			pg_temp.minute(confirmed_at), pg_temp.minute(resolved_at), coalesce(resolution_reason, '-'), pg_temp.minute(opened_at),
			reopen_count, flapping::int, alert_held::int, array_to_string(signals, ','))
		|| ' [' || (SELECT string_agg(concat_ws(' ', event, status, pg_temp.minute(ts), severity, score), ', ' ORDER BY event_number)
			FROM smartbox.incident_events AS e WHERE e.service = i.service AND e.incident_id = i.incident_id)
		|| '] [' || coalesce((SELECT string_agg(concat_ws(' ', alert_type, severity, pg_temp.minute(ts), silence_id), ', ' ORDER BY alert_number)
			FROM smartbox.alerts AS a WHERE a.service = i.service AND a.incident_id = i.incident_id), '') || ']',
		E'\n' ORDER BY first_seen, incident_id)
	   FROM smartbox.incidents AS i WHERE i.service = of_service $$;});

# ---------------------------------------------------------------------------
# Steps
# ---------------------------------------------------------------------------

my @signals = ([], ['latency'], ['errors'], [ 'latency', 'errors' ], ['traffic']);
my @services = map {
	{
		name => "s$_", newest => -1, seen => {}, incidents => [], silences => [], openings => [], story => [],
		confirmation => 1 + int(rand 3), grace => 1 + int(rand 4), separation => (10, 30, 60)[ rand 3 ],
		openings_allowed => 2 + int(rand 4), window => 60 + int(rand 400),
		faults => 1 + int(rand 4), badness => 0.2 + rand 0.6 }
} 1 .. 12;
ask("INSERT INTO smartbox.services (service, category, confirmation_cycles, resolution_grace_cycles, incident_separation, flapping_openings, flapping_window)
	VALUES ('$_->{name}', 'standard', $_->{confirmation}, $_->{grace}, '$_->{separation} min', $_->{openings_allowed}, '$_->{window} min');") foreach @services;

sub random_anomalies
{
	my ($service) = @_;
	my $count = 1 + (rand() < 0.4) + (rand() < 0.15);

	return map {
		my $name = ('slow', 'latency', 'broken', 'surge')[ rand $service->{faults} ];
		{
			name => $name, type => 'anomaly_detected', severity => (qw(low medium high critical))[ rand 4 ],
			signals => rand() < 0.6 ? [] : $signals[ rand @signals ] }
	} 1 .. $count;
}

sub agrees
{
	my ($step, $what, $service, $statements, $expected) = @_;
	my $have = join("\n", grep { /[^\s,]/ } split /\n/, ask($statements));
	my $want = join("\n", grep { /[^\s,-]/ } split /\n/, $expected);

	return 1 if $have eq $want;
	fail("step $step, $what of $service->{name} (confirmation $service->{confirmation}, grace $service->{grace}, separation $service->{separation}, flapping $service->{openings_allowed} in $service->{window})");
	diag("seed $seed\nhave:\n$have\nwant:\n$want\nstory:\n" . join("\n", @{ $service->{story} }));
	return 0;
}

# Something that a person does, if there is something to do it to; returns the
# statement, and the id of a silence that it makes is taken from its answer.
sub person_acts
{
	my ($service) = @_;
	my @active = grep { $_->{status} ne 'CLOSED' } @{ $service->{incidents} };
	my $incident = $active[ rand @active ];
	my $minute = $service->{newest};
	my $dice = rand;
	my $happens = sub
	{
		my ($event, @to) = @_;
		happened($_, $event, $minute, $_->{severity}, $score{ $_->{severity} }) foreach @to;
		return;
	};

	return if $minute < 0;
	if ($dice < 0.4)
	{
		return unless $incident;
		over($incident, 'CLOSE', 'closed_by_person', $minute);
		return ('close', "SELECT FROM close_incident('$incident->{id}');");
	}
	elsif ($dice < 0.55)
	{
		return unless $incident;
		$happens->('ACKNOWLEDGE', $incident);
		return ('acknowledge', "SELECT FROM acknowledge_incident('$incident->{id}', 'on it');");
	}
	elsif ($dice < 0.85 || !@{ $service->{silences} })
	{
		my ($what) = map { $_ && rand() < 0.6 ? $_->{name} : '' } $incident;
		my $until = $minute + 5 + int(rand 60);
		my $id = ask("SELECT silence('$service->{name}', " . ($what ? "'$what'" : 'NULL') . ", to_timestamp($epoch + 60 * $until))->>'silence_id';");

		push @{ $service->{silences} }, { id => $id, what => $what, until => $until };
		$happens->('SILENCE', grep { $what eq '' || $_->{name} eq $what } @active);
		return ('silence', '');
	}
	my $silence = splice @{ $service->{silences} }, rand @{ $service->{silences} }, 1;
	$happens->('SILENCE', grep { $silence->{what} eq '' || $_->{name} eq $silence->{what} } @active);
	return ('unsilence', "SELECT FROM unsilence('$silence->{id}');");
}

my $agreed = 0;
my %kinds;
STEP: foreach my $step (1 .. $steps)
{
	my $service = $services[ rand @services ];
	my $dice = rand;
	my ($kind, $minute, $no_data, @anomalies);

	if (rand() < 0.08)
	{
		my ($act, $statement) = person_acts($service);
		if ($act)
		{
			$kinds{$act}++;
			push @{ $service->{story} }, "-- $act\n$statement";
			$agreed += agrees($step, $act, $service, "$statement SELECT pg_temp.picture('$service->{name}');", picture($service)) or last STEP;
			next STEP;
		}
	}
	$minute = $service->{newest} + 1 + int(rand() < 0.1 ? rand 90 : rand 8);
	if ($dice < 0.04 && $service->{newest} >= 0)
	{
		($kind, $minute) = ('repeated', (keys %{ $service->{seen} })[ rand keys %{ $service->{seen} } ]);
		@anomalies = random_anomalies($service) if rand() < 0.5;
	}
	elsif ($dice < 0.08 && $service->{newest} > 0)
	{
		($kind, $minute) = ('late', int(rand $service->{newest}));
		@anomalies = random_anomalies($service) if rand() < 0.5;
	}
	elsif ($dice < 0.16)
	{
		($kind, $no_data) = ('no data', 1);
		$minute += int(rand 60) if rand() < 0.4;
		@anomalies = { name => 'no_data', type => 'no_data', severity => 'high', signals => [] } if rand() < 0.5;
	}
	elsif (rand() < $service->{badness})
	{
		$kind = 'detected';
		@anomalies = random_anomalies($service);
	}
	else
	{
		$kind = 'quiet';
	}
	$kinds{$kind}++;

	my $is_new = !$service->{seen}{$minute};
	my @said = cycle($service, $minute, $no_data, @anomalies);
	my $expected = join("\n", grep { $_ ne '' } ($is_new && @anomalies ? join(', ', map { $_ eq '' ? '-' : $_ } @said) : ''), picture($service));
	my $statement = "INSERT INTO smartbox.detections (service, ts, time_period, is_anomaly, no_data, severity, payload)"
	  . " VALUES ('$service->{name}', to_timestamp($epoch + 60 * $minute), 'night_hours', "
	  . (@anomalies ? 'true' : 'false') . ', ' . ($no_data ? 'true' : 'false') . ", "
	  . (@anomalies ? "'low'" : "'none'") . ", '{\"anomalies\": ["
	  . join(', ', map {
		my $anomaly = $_;
		qq({"name": "$anomaly->{name}", "severity": "$anomaly->{severity}", "score": $score{ $anomaly->{severity} }, "detection_signals": [)
		  . join(', ', map { qq({"name": "$_"}) } @{ $anomaly->{signals} }) . ']}'
	} @anomalies) . "]}') RETURNING CASE WHEN is_anomaly THEN"
	  . " (SELECT string_agg(coalesce(concat_ws(' ', a #>> '{metadata,incident_id}', a #>> '{metadata,incident_action}', a #>> '{metadata,status}', a #>> '{metadata,occurrence_count}'), ''), ', ' ORDER BY n)"
	  . " FROM jsonb_array_elements(payload->'anomalies') WITH ORDINALITY AS x(a, n)) END;";

	push @{ $service->{story} }, "-- $kind\n$statement";
	$agreed += agrees($step, "$kind at minute $minute", $service, "$statement SELECT pg_temp.picture('$service->{name}');", $expected) or last STEP;
}
is($agreed, $steps, "the triggers and the model agree at each of $steps steps (seed $seed)");

# What was gone through is the whole table.
my %events = map { split /\|/ } split /\n/, ask('SELECT event, count(*) FROM smartbox.incident_events GROUP BY event;');
cmp_ok($events{$_} // 0, '>', 0, "there was a $_") foreach qw(CREATE CONFIRM CONTINUE ESCALATE RECOVER REOPEN RESOLVE EXPIRE ACKNOWLEDGE SILENCE CLOSE);
cmp_ok($spared, '>', 0, 'incidents outlived a time without data that was longer than their separation');
cmp_ok($kinds{$_} // 0, '>', 0, "there was a cycle: $_") foreach 'detected', 'quiet', 'no data', 'late', 'repeated';
cmp_ok($kinds{$_} // 0, '>', 0, "somebody did: $_") foreach qw(close acknowledge silence unsilence);
cmp_ok(scalar(grep { grep { $_->{flaps} } @{ $_->{incidents} } } @services), '>', 0, 'some incidents flapped');
is(ask(q{SELECT count(DISTINCT silence_id IS NULL) FROM smartbox.alerts;}), '2', 'some alerts were silenced, some were not');
is(ask(q{SELECT string_agg(DISTINCT resolution_reason, ' ' ORDER BY resolution_reason) FROM smartbox.incidents;}),
	'auto_stale closed_by_person resolved suspected_expired', 'incidents ended in every way');
is(ask(q{SELECT count(*) FROM smartbox.fingerprints AS f WHERE NOT EXISTS
	(SELECT FROM smartbox.incidents AS i WHERE i.service = f.service AND i.fingerprint_id = f.fingerprint_id
	 HAVING count(*) = f.incident_count AND min(i.first_seen) = f.first_seen);}),
	'0', 'fingerprints have counted them');
is(ask(q{SELECT count(*) FROM smartbox.fingerprints AS f WHERE f.last_seen <
	(SELECT max(i.last_seen) FROM smartbox.incidents AS i WHERE i.service = f.service AND i.fingerprint_id = f.fingerprint_id);}),
	'0', 'and know when each was seen last');

$in .= "\\q\n";
$session->finish;
done_testing();
