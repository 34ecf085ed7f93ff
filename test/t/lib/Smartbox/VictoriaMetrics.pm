# A throw-away VictoriaMetrics on a free port of the loopback interface, in the
# test's work directory.  Stopped when the object goes, and by test/run at last.
#
#   my $source = Smartbox::VictoriaMetrics->start('-search.maxSeries=10', ...);
#   $source->generate('--end', $end, '--csv', $file);
#   $source->url
package Smartbox::VictoriaMetrics;

use strict;
use warnings;
use File::Temp qw(tempdir);
use HTTP::Tiny;
use JSON::PP;
use Time::HiRes ();

sub start
{
	my ($class, @flags) = @_;
	my $folder = tempdir('vm.XXXXXX', DIR => $ENV{SMARTBOX_WORK});
	my $self = bless { folder => $folder, owner => $$, http => HTTP::Tiny->new(timeout => 60) }, $class;

	system('bash', '-c', '. scripts/servers.sh; start_victoria_metrics "$@"', '-', $folder, @flags) == 0
	  or die "VictoriaMetrics does not start";
	open my $file, '<', "$folder/victoria-metrics.url" or die $!;
	chomp($self->{url} = <$file>);
	return $self;
}

sub url { return $_[0]{url} }

# Generate metrics (arguments of demo/generate), import them and wait until
# the last point can be queried.
sub generate
{
	my ($self, @arguments) = @_;
	my $file = "$self->{folder}/import.jsonl";

	open my $output, '>', $file or die "$file: $!";
	open my $generator, '-|', 'demo/generate', @arguments or die "demo/generate: $!";
	while (my $line = <$generator>)
	{
		print $output $line;
	}
	close $generator or die "demo/generate has failed";
	close $output or die "$file: $!";
	$self->import_file($file);
}

sub import_file
{
	my ($self, $file) = @_;
	my (%last, $content);

	open my $input, '<', $file or die "$file: $!";
	while (my $line = <$input>)
	{
		my ($labels) = $line =~ /"metric":(\{[^}]*\})/ or die "no metric in $file";
		my ($time) = $line =~ /(\d+)\]\}$/ or die "no timestamp in $file";

		$last{$labels} = $time / 1000;
		$content .= $line;
	}
	close $input;

	my $answer = $self->{http}->post("$self->{url}/api/v1/import", { content => $content });
	die "import: $answer->{status} $answer->{content}" unless $answer->{status} == 204;
	# The answer is 204 even for lines that were thrown away.
	my $counters = $self->{http}->get("$self->{url}/metrics")->{content};
	die "VictoriaMetrics has thrown rows away:\n$counters"
	  if $counters =~ /^vm_rows_(?:invalid_total\{type="vmimport"\}|ignored_total\{\S*\}) [1-9]/m;
	$self->wait_until_visible(\%last);
}

# Points become visible series by series; ask for the last one of each.
sub wait_until_visible
{
	my ($self, $last) = @_;
	my $deadline = Time::HiRes::time() + 60;

	foreach my $labels (sort keys %$last)
	{
		my %label = %{ decode_json($labels) };
		my $name = delete $label{__name__};
		my $selector = join ',', "__name__=\"$name\"", map { "$_=\"$label{$_}\"" } sort keys %label;
		# Series with more labels match too: what this one lacks must be absent.
		$selector .= ",$_=\"\"" foreach grep { !exists $label{$_} } qw(db_system_name http_response_status_code);

		until ($self->newest("{$selector}", $last->{$labels}) == $last->{$labels})
		{
			die "point at $last->{$labels} of $labels does not appear" if Time::HiRes::time() > $deadline;
			$self->{http}->get("$self->{url}/internal/force_flush");
			select(undef, undef, undef, 0.1);
		}
	}
}

# Time of the newest point of a series up to an instant, 0 if there is none.
sub newest
{
	my ($self, $selector, $at) = @_;
	my $answer = $self->query("timestamp($selector)", $at);

	return @$answer ? $answer->[0]{value}[1] : 0;
}

# An instant query's result.
sub query
{
	my ($self, $query, $at) = @_;
	my $answer = $self->{http}->post_form("$self->{url}/api/v1/query", { query => $query, time => $at, nocache => 1 });

	die "$query: $answer->{status} $answer->{content}" unless $answer->{success};
	return decode_json($answer->{content})->{data}{result};
}

sub stop
{
	my ($self) = @_;

	return if $self->{stopped}++;
	system('bash', '-c', '. scripts/servers.sh; stop_servers "$1"', '-', $self->{folder});
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);

	$self->stop if $self->{owner} == $$;
}

1;
