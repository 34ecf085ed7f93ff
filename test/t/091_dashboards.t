# dashboards/: every statement in them, expanded as Grafana's PostgreSQL data
# source does, runs as the role of docs/grafana.md and gives what its panel can
# draw; docs/grafana.md itself.
use strict;
use warnings;
use CPAN::Meta::YAML;
use JSON::PP ();
use POSIX ();
use Smartbox::Fleet;
use Test::More;

my $node = Smartbox::Fleet::launch('grafana');
my $now = time + 1;
my %dashboards;

sub slurp
{
	my ($name) = @_;
	local $/;
	open my $file, '<', $name or die "$name: $!";
	return <$file>;
}

# ---------------------------------------------------------------------------
# What Grafana makes of a statement
# ---------------------------------------------------------------------------

sub rfc3339
{
	return POSIX::strftime('%Y-%m-%dT%H:%M:%SZ', gmtime $_[0]);
}

my %seconds = (s => 1, m => 60, h => 3600, d => 86400, w => 604800);

sub seconds_of
{
	my ($span) = @_;
	my ($number, $unit) = $span =~ /^(\d+)([smhdw])$/ or die "not a span of time: $span";
	return $number * $seconds{$unit};
}

# Values of variables are lists; a list is quoted and separated by commas.
sub sqlstring
{
	return join ',', map { "'" . s/'/''/gr . "'" } @{ $_[0] };
}

sub expand
{
	my ($sql, $variables, $span, $interval) = @_;
	my ($from, $to) = map { "'" . rfc3339($_) . "'" } $now - seconds_of($span), $now;
	my $group = sub {
		my ($column, $every) = @_;
		my $step = seconds_of($every =~ s/'//gr);
		return "floor(extract(epoch from $column)/$step)*$step";
	};

	$sql =~ s/\$\{(\w+):sqlstring\}/sqlstring($variables->{$1} \/\/ die "no variable $1")/ge;
	$sql =~ s/\$__interval\b/$interval/g;
	$sql =~ s/\$__timeFilter\(([^)]*)\)/$1 BETWEEN $from AND $to/g;
	$sql =~ s/\$__timeFrom\(\)/$from/g;
	$sql =~ s/\$__timeTo\(\)/$to/g;
	$sql =~ s/\$__timeGroupAlias\(([^,)]*),\s*([^,)]*)\)/$group->($1, $2) . ' AS "time"'/ge;
	$sql =~ s/\$__timeGroup\(([^,)]*),\s*([^,)]*)\)/$group->($1, $2)/ge;
	return $sql;
}

# Run it as Grafana's role; returns columns as [name, type] and rows as lists.
sub run
{
	my ($sql) = @_;
	my @results;

	foreach my $statement ("$sql \\gdesc", "$sql;")
	{
		my $status = $node->psql('shop', $statement, stdout => \my $out, stderr => \my $err, on_error_stop => 1,
			extra_params => [ '-U', 'grafana', '-F', "\x1f", '-R', "\x1e" ]);
		return diag("$err\n$sql") && undef if $status != 0 || $err ne '';
		push @results, [ map { [ split /\x1f/, $_, -1 ] } split /\x1e/, $out ];
	}
	return @results;
}

my $number = qr/^(?:smallint|integer|bigint|numeric|real|double precision)$/;
my $drawable = qr/$number|^(?:text|boolean|timestamp with time zone)$/;

# ---------------------------------------------------------------------------
# The page
# ---------------------------------------------------------------------------

my @blocks = slurp('docs/grafana.md') =~ /^```sql\n(.*?)^```$/msg;
is(scalar @blocks, 5, 'statements of the page');
is($node->psql('shop', shift @blocks, on_error_stop => 1), 0, 'the page makes a role');
foreach my $block (@blocks)
{
	$block =~ s/;\s*\z//;
	my ($columns) = run(expand($block, { service => [ 'booking', q{it's "odd" {}} ] }, '24h', '5m'));
	is_deeply([ grep { $_->[1] !~ $drawable } @{ $columns // [ [ '', 'nothing' ] ] } ], [], 'the page: ' . (split /\n/, $block)[0]);
}
is($node->psql('shop', q{UPDATE smartbox.samples SET warnings = NULL}, extra_params => [ '-U', 'grafana' ]), 3, 'the role cannot write');
is($node->psql('shop', q{SELECT detect_anomalies('booking')}, extra_params => [ '-U', 'grafana' ]), 3, '... or detect');

my ($sh) = slurp('docs/grafana.md') =~ /^```sh\n(.*?)^```$/ms;
my $root = $node->basedir . '/root';
is(system('bash', '-ec', $sh =~ s{ (/(?:etc|var)/)}{ $root$1}gr), 0, 'the page installs what Grafana reads');
my $provider = CPAN::Meta::YAML->read_string(slurp("$root/etc/grafana/provisioning/dashboards/smartbox.yaml"))->[0]{providers}[0];
is(scalar(() = glob "$root$provider->{options}{path}/*.json"), 4, '... with the dashboards where the provider looks for them');
my $source = CPAN::Meta::YAML->read_string(slurp("$root/etc/grafana/provisioning/datasources/smartbox.yaml"))->[0]{datasources}[0];
is($source->{type}, 'postgres', '... and a data source');
my %used = map { $_ => 1 } slurp('dashboards/provisioning/datasources/smartbox.yaml') =~ /\$(SMARTBOX_\w+)/g;
is_deeply({ map { $_ => 1 } slurp('docs/grafana.md') =~ /^\| `(SMARTBOX_\w+)`/mg }, \%used, '... whose variables the page names');

# ---------------------------------------------------------------------------
# The dashboards
# ---------------------------------------------------------------------------

foreach my $file (glob 'dashboards/*.json')
{
	my $dashboard = eval { JSON::PP->new->utf8->decode(slurp($file)) };
	ok($dashboard, "$file is JSON") or next;
	$dashboards{ $dashboard->{uid} } = $dashboard;
	is("dashboards/$dashboard->{uid}.json", $file, '... named like its uid');
}
is(scalar keys %dashboards, 4, 'four dashboards');

sub check_statement
{
	my ($what, $target, $variables, $span, $interval) = @_;

	is_deeply($target->{datasource} // { uid => '${DS}' }, { type => 'postgres', uid => '${DS}' }, "$what has the data source that was chosen")
	  if $target->{datasource};
	my $sql = expand($target->{rawSql}, $variables, $span, $interval);
	unlike($sql, qr/\$\w|\$\{|\[\[|;/, "$what: nothing is left to expand");
	my ($columns, $rows) = run($sql);
	ok($columns, "$what runs") or return ([], []);
	is_deeply([ map { "@$_" } grep { $_->[1] !~ $drawable } @$columns ], [], "$what: Grafana knows the types of its columns");
	is_deeply([ map { $_->[0] } @$columns ], [ keys %{ { map { $_->[0] => 1 } @$columns } } == @$columns ? map { $_->[0] } @$columns : 'the same name twice' ],
		"$what: names are unique");
	cmp_ok(scalar @$rows, '>', 0, "$what has something to show");
	return ($columns, $rows);
}

# A series: time first and ascending, numbers, and at most one text that names it.
sub check_series
{
	my ($what, $columns, $rows) = @_;
	my ($time, @others) = @$columns;
	my @texts = grep { $_->[1] eq 'text' } @others;
	my @numbers = grep { $_->[1] =~ $number } @others;

	is($time->[0], 'time', "$what: the time comes first");
	like($time->[1], qr/$number|^timestamp with time zone$/, "$what: ... and is one");
	cmp_ok(scalar @numbers, '>', 0, "$what: numbers to draw");
	cmp_ok(scalar @texts, '<', 2, "$what: at most one name of series");
	is(scalar @texts + @numbers, scalar @others, "$what: nothing else");
	my @times = map { $_->[0] } @$rows;
	is_deeply(\@times, [ $time->[1] =~ $number ? sort { $a <=> $b } @times : sort @times ], "$what: in the order of time");
	cmp_ok(scalar(grep { my $row = $_; grep { $row->[$_] ne '' && $columns->[$_][1] =~ $number } 1 .. $#$columns } @$rows), '>', 0, "$what: with values");
	return;
}

# Every field has a unit, and what is said of a field is said of one that is there.
sub check_fields
{
	my ($what, $panel, $columns, $rows) = @_;
	my %is_field = map { $_->[0] => 1 } @$columns;
	my ($named) = grep { $columns->[$_][1] eq 'text' } 0 .. $#$columns;
	my $config = $panel->{fieldConfig};

	# The names of series are fields, too; not every severity has to be there.
	if ($panel->{type} eq 'timeseries' && defined $named) { $is_field{$_} = 1 foreach qw(critical high medium low), map { $_->[$named] } @$rows }
	is_deeply([ grep { !$is_field{$_} } map { $_->{matcher}{options} } @{ $config->{overrides} } ], [], "$what: its fields are there");
	ok($config->{defaults}{unit} || $panel->{type} eq 'state-timeline', "$what: with units");
	my %unit_of = map { my $override = $_; map { $_->{id} eq 'unit' ? ($override->{matcher}{options} => $_->{value}) : () } @{ $override->{properties} } } @{ $config->{overrides} };
	is_deeply([ grep { !exists $unit_of{$_} } map { $_->[0] } grep { $_->[1] =~ /^timestamp/ && $_->[0] ne 'time' } @$columns ], [],
		"$what: instants are shown as such") if $panel->{type} eq 'table';
	return;
}

sub check_links
{
	my ($what, $panel, $columns) = @_;
	my %is_field = map { $_->[0] => 1 } @$columns;

	foreach my $url (JSON::PP->new->allow_nonref->encode($panel) =~ /"url":"([^"]*)"/g)
	{
		my ($uid, $query) = $url =~ m{^/d/([\w-]+)/[\w-]+\?(.*)$};
		ok($uid && $dashboards{$uid}, "$what leads to a dashboard") or next;
		my %is_variable = map { $_->{name} => 1 } @{ $dashboards{$uid}{templating}{list} };
		is_deeply([ grep { !$is_variable{$_} } $query =~ /\bvar-(\w+)=/g ], [], "$what: ... with variables that it has");
		is_deeply([ grep { !$is_field{$_} } $query =~ /__data\.fields\.(\w+):percentencode/g ], [], "$what: ... and values that are there");
		unlike($query, qr/__data\.fields\.\w+\}/, "$what: ... which are encoded");
	}
	return;
}

foreach my $dashboard (map { $dashboards{$_} } sort keys %dashboards)
{
	my $uid = $dashboard->{uid};
	my ($span) = $dashboard->{time}{from} =~ /^now-(\w+)$/;
	my (%variables, %is_id, @taken);

	cmp_ok($dashboard->{schemaVersion}, '>=', 36, "$uid is of Grafana 9 or newer");
	like($dashboard->{description}, qr/\w.*\.$/, '... and says what it is');
	is($dashboard->{time}{to}, 'now', '... up to now');

	# Variables may depend on those before them; all values are taken at once.
	foreach my $variable (@{ $dashboard->{templating}{list} })
	{
		my $what = "$uid, variable $variable->{name}";

		if ($variable->{type} eq 'datasource') { is("$variable->{name} $variable->{query}", 'DS postgres', "$what chooses the database"); next }
		my ($columns, $rows) = check_statement($what, { datasource => $variable->{datasource}, rawSql => $variable->{query} }, \%variables, $span, '5m');
		my ($value) = grep { $columns->[$_][0] eq '__value' } 0 .. $#$columns;
		is_deeply([ map { $_->[0] } @$columns ], defined $value ? [qw(__text __value)] : [ $columns->[0][0] ], "$what has values");
		is($variable->{definition}, $variable->{query}, "$what is shown as it is");
		is($variable->{refresh}, $variable->{query} =~ /\$__time/ ? 2 : 1, "$what is asked for when it can change");
		my @values = map { $_->[ $value // 0 ] } @$rows;
		my ($chosen) = map { my $row = $_; grep { /^booking$/ || $row->[0] =~ /booking.*\(open\)/ } @$row[ $value // 0 ] } @$rows;
		$variables{ $variable->{name} } = $variable->{multi} ? \@values : [ $chosen // $values[0] ];
	}

	foreach my $annotation (grep { !$_->{builtIn} } @{ $dashboard->{annotations}{list} })
	{
		my $what = "$uid, annotation $annotation->{name}";
		my ($columns, $rows) = check_statement($what, { %{ $annotation->{target} }, datasource => $annotation->{datasource} }, \%variables, $span, '5m');
		my %type = map { @$_ } @$columns;
		is_deeply([ grep { !/^(?:time|timeend|text|tags)$/ } keys %type ], [], "$what has the columns of annotations");
		is("$type{time} $type{text} $type{tags}", 'timestamp with time zone text text', "$what: ... of their types");
		is($type{timeend} // $type{time}, $type{time}, "$what: ... with an end like its begin");
	}

	foreach my $panel (@{ $dashboard->{panels} })
	{
		my $what = "$uid, $panel->{title}";
		my ($x, $y, $w, $h) = @{ $panel->{gridPos} }{qw(x y w h)};

		ok(!$is_id{ $panel->{id} }++, "$what: its id is its own");
		like($panel->{description}, qr/^\p{Lu}.*\.$/, "$what is described");
		ok($panel->{title} ne '' && $x >= 0 && $w > 0 && $h > 0 && $x + $w <= 24, "$what has a title and a place");
		is_deeply([ grep { $_->[0] < $x + $w && $x < $_->[0] + $_->[2] && $_->[1] < $y + $h && $y < $_->[1] + $_->[3] } @taken ], [], "$what has it alone");
		push @taken, [ $x, $y, $w, $h ];
		is_deeply($panel->{datasource}, { type => 'postgres', uid => '${DS}' }, "$what reads the database that was chosen");
		is(scalar @{ $panel->{targets} }, 1, "$what has one statement");
		my %here = %variables;
		$here{ $panel->{repeat} } = [ $variables{ $panel->{repeat} }[0] ] if $panel->{repeat};
		my $target = $panel->{targets}[0];
		my ($columns, $rows) = check_statement($what, $target, \%here, $panel->{timeFrom} // $span, $panel->{interval} // '5m');
		is($target->{format}, $panel->{type} eq 'timeseries' ? 'time_series' : 'table', "$what: its format is that of its kind");
		check_series($what, $columns, $rows) if $panel->{type} eq 'timeseries';
		check_fields($what, $panel, $columns, $rows);
		check_links($what, $panel, $columns);
	}
}

done_testing();
