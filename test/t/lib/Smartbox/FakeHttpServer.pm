# A small HTTP server for what a real one does not do on request.  Runs as a
# child process on a free port of the loopback interface; stopped when the
# object goes, and by test/run at last.
#
#   my $fake = Smartbox::FakeHttpServer->start;
#   $fake->answer('works', body => '{"status":...}');
#   ... set the endpoint to $fake->url('works') ...
#   my @requests = $fake->requests('works');
#   my $count = $fake->connections;
#
# start(tls => { SSL_cert_file => ..., SSL_key_file => ... }) speaks TLS; what
# it takes are options of IO::Socket::SSL.
#
# The first part of a request's path says how it is treated: by the name of an
# answer that was given before, or one of these:
#
#   never       reads the request and says nothing
#   drop        closes the connection instead of an answer
#   endless     sends a body without end
#   bomb        the same, compressed a thousandfold
#   headers     sends headers without end
#   two_gb      sends a body of 2 GB and says so before; nothing of it is stored
#
# An answer has a status (200), headers, a body, and
#
#   times => n            is given n times; then comes what "next" names
#   next => 'name'
#   truncate => n         the connection is closed after n bytes of the body
#   stall => n            nothing comes after n bytes of the body
#   hold => 1             the answer waits for $fake->release('name')
#   gzip => 1             compressed, when the client understands that
#   chunk => n            sent as chunks of n bytes (Transfer-Encoding)
#   close => 1            the connection is closed after the answer
#
# In a body, such as vector() makes, @time@, @start@ and @end@ become the request's parameters.
package Smartbox::FakeHttpServer;

use strict;
use warnings;
use Fcntl qw(:flock :seek);
use File::Temp qw(tempdir);
use IO::Compress::Gzip qw(gzip $GzipError);
use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use Socket qw(IPPROTO_TCP TCP_NODELAY);

sub start
{
	my ($class, %options) = @_;
	my $folder = tempdir('fake-http.XXXXXX', DIR => $ENV{SMARTBOX_WORK} || '/tmp');
	my $listener = IO::Socket::INET->new(
		LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 64, ReuseAddr => 1)
	  or die "no socket to listen on: $!";
	my $self = bless { folder => $folder, port => $listener->sockport, owner => $$, tls => $options{tls} }, $class;
	my $pid = fork;

	die "fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		# Nothing of the test's own may run here, not even its END blocks.
		eval { $self->serve($listener) };
		print STDERR "fake HTTP server: $@" if $@;
		POSIX::_exit(1);
	}
	$listener->close;
	$self->{pid} = $pid;
	write_file("$folder/fake-http.pid", "$pid\n");
	return $self;
}

# The endpoint whose requests are treated as the name says.
sub url
{
	my ($self, $name) = @_;
	return ($self->{tls} ? 'https' : 'http') . "://127.0.0.1:$self->{port}" . (defined $name ? "/$name" : '');
}

sub host { return "127.0.0.1:$_[0]{port}" }

sub answer
{
	my ($self, $name, %answer) = @_;
	write_file("$self->{folder}/$name.answer", encode_json(\%answer));
	return;
}

# Let answers of this name go that wait, now and from now on.
sub release
{
	my ($self, $name) = @_;
	write_file("$self->{folder}/$name.released", '');
	return;
}

# Have answers of this name wait again.
sub hold
{
	my ($self, $name) = @_;
	unlink "$self->{folder}/$name.released";
	return;
}

# The requests that were treated under a name, in order: method, path,
# headers (names in lower case), parameters, and the body if it was JSON.
sub requests
{
	my ($self, $name) = @_;
	return grep { !defined $name || $_->{name} eq $name }
	  map { decode_json($_) } split /\n/, read_file("$self->{folder}/requests");
}

# How many connections there have been.
sub connections
{
	return scalar split /\n/, read_file("$_[0]{folder}/connections");
}

sub stop
{
	my ($self) = @_;

	return if $self->{stopped}++;
	# The server leads a group of its own, with a process for each connection.
	kill 'KILL', -$self->{pid};
	waitpid $self->{pid}, 0;
	unlink "$self->{folder}/fake-http.pid";
	return;
}

sub DESTROY
{
	my ($self) = @_;
	local ($?, $!, $@);

	$self->stop if $self->{pid} && $self->{owner} == $$;
	return;
}

# The body of an answer to an instant query; each argument is [service, value].
# Keys are in order: a reader of the stream needs "metric" before "value".
sub vector
{
	my @series = map { { metric => { service_name => $_->[0] }, value => [ 0, $_->[1] ] } } @_;
	return JSON::PP->new->canonical->encode(
		{ status => 'success', data => { resultType => 'vector', result => \@series } }) =~ s/\[0,/[\@time\@,/gr;
}

# ---------- files, which carry everything between the processes ----------

sub read_file
{
	my ($path) = @_;
	open my $file, '<:raw', $path or return '';
	local $/;
	my $text = <$file>;
	return defined $text ? $text : '';
}

sub write_file
{
	my ($path, $text) = @_;
	open my $file, '>:raw', "$path.new" or die "$path: $!";
	print $file $text;
	close $file or die "$path: $!";
	rename "$path.new", $path or die "$path: $!";
	return;
}

sub append_line
{
	my ($path, $line) = @_;
	open my $file, '>>:raw', $path or die "$path: $!";
	syswrite $file, "$line\n";
	close $file;
	return;
}

# Count a use of something; returns how many there were before.
sub count_use
{
	my ($path) = @_;
	open my $file, '+>>', $path or die "$path: $!";
	flock $file, LOCK_EX;
	seek $file, 0, SEEK_SET;
	my $n = <$file> || 0;
	truncate $file, 0;
	syswrite $file, $n + 1;
	close $file;
	return $n;
}

# ---------- the server's process ----------

sub serve
{
	my ($self, $listener) = @_;

	setpgrp;
	# test/run looks for the directory in the command line of what it stops
	$0 = "fake-http-server $self->{folder}";
	$SIG{$_} = 'DEFAULT' foreach qw(INT TERM HUP);
	$SIG{CHLD} = 'IGNORE';
	while (1)
	{
		my $client = $listener->accept or next;

		append_line("$self->{folder}/connections", 'connection');
		my $pid = fork;
		if (defined $pid && $pid == 0)
		{
			$listener->close;
			$SIG{PIPE} = 'DEFAULT';
			$client->autoflush(1);
			setsockopt $client, IPPROTO_TCP, TCP_NODELAY, 1;
			eval
			{
				$client = $self->begin_tls($client) if $self->{tls};
				$self->converse($client) if $client;
			};
			POSIX::_exit(0);
		}
		$client->close;
	}
}

# undef when the client does not like what it sees.
sub begin_tls
{
	my ($self, $client) = @_;
	require IO::Socket::SSL;
	return IO::Socket::SSL->start_SSL($client, SSL_server => 1, %{ $self->{tls} });
}

# Answer the requests of one connection.
sub converse
{
	my ($self, $client) = @_;

	while (my $request = read_request($client))
	{
		append_line("$self->{folder}/requests", encode_json($request));
		return unless $self->treat($client, $request, $request->{name});
	}
	return;
}

sub read_request
{
	my ($client) = @_;
	my $line = <$client>;
	my %request = (headers => {}, parameters => {});

	return unless defined $line && $line =~ m{^(\w+) (\S+) HTTP/1\.1\r\n};
	($request{method}, $request{path}) = ($1, $2);
	while (defined($line = <$client>) && $line =~ /^([^:]+):\s*(.*?)\r\n/)
	{
		$request{headers}{ lc $1 } = $2;
	}
	my $form = $request{path} =~ s/\?(.*)// ? $1 : '';
	if (my $length = $request{headers}{'content-length'})
	{
		$client->read($form, $length) == $length or return;
	}
	if (($request{headers}{'content-type'} || '') =~ /json/)
	{
		($request{body}, $form) = ($form, '');
	}
	foreach my $pair (split /&/, $form)
	{
		my ($name, $value) = map { s/\+/ /gr =~ s/%(..)/chr hex $1/ger } split /=/, $pair, 2;
		$request{parameters}{$name} = $value;
	}
	# a proxy is asked with the whole address: its name is "http:"
	($request{name}) = $request{path} =~ m{^/?([^/]*)};
	return \%request;
}

# Wait until the client has gone.
sub wait_for_end
{
	my ($client) = @_;
	1 while sysread $client, my $ignored, 4096;
	return 0;
}

# Returns whether the connection can go on.
sub treat
{
	my ($self, $client, $request, $name) = @_;

	my $series = '{"metric":{"service_name":"nobody"},"value":[0,"1"]}';

	return wait_for_end($client) if $name eq 'never';
	return 0 if $name eq 'drop';
	if ($name eq 'endless')
	{
		print $client "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n",
		  '{"status":"success","data":{"resultType":"vector","result":[', $series;
		1 while print $client ",$series" x 1000;
		return 0;
	}
	if ($name eq 'bomb')
	{
		print $client "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
		  "Content-Encoding: gzip\r\n\r\n";
		my $stream = IO::Compress::Gzip->new($client);
		print $stream '{"status":"success","data":{"resultType":"vector","result":[', $series;
		1 while print $stream ",$series" x 10_000;
		return 0;
	}
	if ($name eq 'two_gb')
	{
		print $client "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2147483648\r\n\r\n";
		my $part = '{"status":"success",' . ' ' x (65536 - 20);
		for (1 .. 32768)
		{
			print $client $part or return 0;
			$part = ' ' x 65536;
		}
		return 1;
	}
	if ($name eq 'headers')
	{
		print $client "HTTP/1.1 200 OK\r\n";
		1 while print $client 'X-More: ', 'x' x 1000, "\r\n";
		return 0;
	}

	my $text = read_file("$self->{folder}/$name.answer");
	my %answer = $text eq '' ? (status => 500, body => "no answer named $name") : %{ decode_json($text) };
	if (defined $answer{times} && count_use("$self->{folder}/$name.uses") >= $answer{times})
	{
		return $self->treat($client, $request, $answer{next});
	}
	if ($answer{hold})
	{
		select undef, undef, undef, 0.02 until -e "$self->{folder}/$name.released";
	}
	return send_answer($client, $request, %answer);
}

sub send_answer
{
	my ($client, $request, %answer) = @_;
	my $body = defined $answer{body} ? $answer{body} : '';
	my @headers = ('Content-Type: application/json', @{ $answer{headers} || [] });

	utf8::encode($body) if utf8::is_utf8($body);
	$body =~ s/\@(time|start|end)\@/$request->{parameters}{$1}/g;
	if ($answer{gzip} && ($request->{headers}{'accept-encoding'} || '') =~ /gzip/)
	{
		gzip(\$body, \my $compressed) or die "gzip: $GzipError";
		$body = $compressed;
		push @headers, 'Content-Encoding: gzip';
	}
	push @headers, $answer{chunk} ? 'Transfer-Encoding: chunked' : 'Content-Length: ' . length $body;
	print $client 'HTTP/1.1 ', $answer{status} || 200, ' ', $answer{reason} || 'Whatever', "\r\n",
	  map({ "$_\r\n" } @headers), "\r\n";

	my $sent = defined $answer{truncate} ? $answer{truncate} : $answer{stall};
	if (defined $sent)
	{
		print $client substr $body, 0, $sent;
		return defined $answer{stall} ? wait_for_end($client) : 0;
	}
	if (my $size = $answer{chunk})
	{
		for (my $i = 0; $i < length $body; $i += $size)
		{
			my $part = substr $body, $i, $size;
			printf $client "%x\r\n%s\r\n", length $part, $part;
		}
		print $client "0\r\n\r\n";
	}
	else
	{
		print $client $body;
	}
	return !$answer{close};
}

1;
