# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_nunbirdctl_global_optspecs
    string join \n format= h/help V/version
end

function __fish_nunbirdctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_nunbirdctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_nunbirdctl_using_subcommand
    set -l cmd (__fish_nunbirdctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -s V -l version -d 'Print version'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "check" -d 'Read a configuration, run its tests and inspect this host; print every finding'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "doctor" -d 'Do everything that check does, and inspect gitlab-runner\'s configuration, systemd, disk space and the kernel'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "runner-config" -d 'Print the part of gitlab-runner\'s config.toml for a configuration, or check an existing file'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "explain" -d 'Show how a job would be decided: every rule, every condition, the actual value; or what the code of a refusal means'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "test" -d 'Run the policy\'s own tests, `[[test]]` in the configuration and in more files'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "show" -d 'Print the effective configuration, with the file and line of each value'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "diff" -d 'Decide past jobs again with another configuration, and print which decisions change'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "audit" -d 'Search the audit file, and print all events of one job'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "report" -d 'Count jobs, refusals, waits, CPU time and memory of a span of time, as text or as a page with plots'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "metrics" -d 'Write counters of jobs, refusals and durations for Prometheus, as node_exporter\'s textfile collector reads them'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "people" -d 'Show and change which GitLab user each account is bound to on this host'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "jobs" -d 'List the jobs on this host with their users, start times and hosts; end one of them and clean up after it'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "images" -d 'List the container images of your own jobs on this host, pull one, and remove those that no job uses'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "credentials" -d 'Ask the site\'s programs for its passwords of registries, and keep them for jobs'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "machines" -d 'Build, update, list, verify, enter and remove the trees that machines boot from, as root'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "user" -d 'Set up a runner of your own without root: check this host, add runners, start their units; remove all of it'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "keys" -d 'List the signing keys of the servers, as nunbird-auth would use them'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "adopt" -d 'Switch the runners that call Jacamar CI to Nunbird, with their configurations; or back'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "migrate" -d 'Print a Jacamar CI configuration as a Nunbird configuration'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "sweep" -d 'Remove what a crashed gitlab-runner left behind: ended jobs, its old temporary files, and old build directories'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "schema" -d 'Print the JSON schema of the configuration, for editors'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "completions" -d 'Print completions for a shell'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "codes-page" -d 'Print docs/codes.md'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "man" -d 'Write the man pages into a directory'
complete -c nunbirdctl -n "__fish_nunbirdctl_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand check" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand check" -l runner-user -d 'The account that runs gitlab-runner, as which no job runs' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand check" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand check" -l no-host -d 'Read only the files; do not inspect programs, accounts, directories and keys'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand check" -l strict -d 'Treat remarks as errors'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand doctor" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand doctor" -l runner-user -d 'The account that runs gitlab-runner, as which no job runs' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand doctor" -l runner-config -d 'gitlab-runner\'s own configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand doctor" -l unit -d 'gitlab-runner\'s unit; by default the service that its processes run in' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand doctor" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand doctor" -l strict -d 'Treat remarks as errors'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand runner-config" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand runner-config" -l check -d 'Check this config.toml of gitlab-runner, as doctor does; `-` is standard input' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand runner-config" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand runner-config" -l strict -d 'With --check: treat remarks as errors'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand runner-config" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l runner-user -d 'The account that runs gitlab-runner, as which no job runs' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l claims -d 'JSON object with facts of the job: a token\'s payload, or the names of `[[test]]`' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l token -d 'An id token. It is not printed' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l job -d 'A job response of gitlab-runner (`JOB_RESPONSE_FILE`) with an id token in it' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l decision -d 'The id of a past decision, or its first digits: the decision, and the decision by today\'s policy' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l validated -d 'The account that the site\'s validation program would return' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l log -d 'The audit file, for --decision; by default the one in the configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l codes -d 'List the codes of all refusals'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -l run-validation -d 'As root: run the site\'s validation program'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand test" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand test" -l runner-user -d 'The account that runs gitlab-runner, as which no job runs' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand test" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand test" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand show" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand show" -l key -d 'One key, such as `accounts.min_uid`' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand show" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand diff" -l log -d 'The audit file with the past jobs' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand diff" -l runner-user -d 'The account that runs gitlab-runner, as which no job runs' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand diff" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l file -d 'The audit file' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l user -d 'GitLab login or local account' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l project -d 'Full path of the project' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l job -d 'GitLab\'s id of the job: prints all of its events' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l decision -d 'The id of a decision, or its first digits: prints all events of its job' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l account -d 'Local account only' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l code -d 'Denials with this code' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l stage -d 'Events of this stage: `config`, `prepare`, `run`, `cleanup`, or gitlab-runner\'s name of a script' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -s n -l lines -d 'Only the last N' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l since -d 'From this time, UTC: 1h, 2d (ago), today, yesterday, 2026-11-21, 2026-11-21T10:00:00Z, or seconds since the epoch' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l until -d 'Until this time' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l jobs -d 'One line for each job'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l counts -d 'The number of events by outcome, code, rule and account'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -s f -l follow -d 'Continue with events as they are written, also after a rotation, until interrupted'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -l denied -d 'Only denials'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand audit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand report" -l file -d 'The audit file; its rotated files are read as well' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand report" -l since -d 'From this time, UTC: 1h, 30d (ago), today, yesterday, 2026-11-21, 2026-11-21T10:00:00Z, or seconds since the epoch' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand report" -l until -d 'Until this time' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand report" -l html -d 'Write a page with plots into this file, mode 0600. A link of that name is replaced' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand report" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand metrics" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand metrics" -l file -d 'The audit file; by default that of the configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand metrics" -l output -d 'The file to write; by default standard output' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand metrics" -l state -d 'What was counted before, and how far the audit file was read' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand metrics" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand metrics" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and not __fish_seen_subcommand_from list show forget import export help" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and not __fish_seen_subcommand_from list show forget import export help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and not __fish_seen_subcommand_from list show forget import export help" -f -a "list" -d 'Print every account, with its server and the id of the GitLab user that it is bound to'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and not __fish_seen_subcommand_from list show forget import export help" -f -a "show" -d 'Print which user an account is bound to, on every server'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and not __fish_seen_subcommand_from list show forget import export help" -f -a "forget" -d 'Remove the binding of an account: its next job binds it to that job\'s user'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and not __fish_seen_subcommand_from list show forget import export help" -f -a "import" -d 'Import lines `account server user_id`: the whole file or nothing'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and not __fish_seen_subcommand_from list show forget import export help" -f -a "export" -d 'Print all bindings as a file that import and `accounts.people_file` read'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and not __fish_seen_subcommand_from list show forget import export help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from list" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from show" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from forget" -l server -d 'Only on this server' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from forget" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from forget" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from import" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from import" -l replace -d 'Overwrite the bindings of accounts that are bound to another user here'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from export" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from help" -f -a "list" -d 'Print every account, with its server and the id of the GitLab user that it is bound to'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from help" -f -a "show" -d 'Print which user an account is bound to, on every server'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from help" -f -a "forget" -d 'Remove the binding of an account: its next job binds it to that job\'s user'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from help" -f -a "import" -d 'Import lines `account server user_id`: the whole file or nothing'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from help" -f -a "export" -d 'Print all bindings as a file that import and `accounts.people_file` read'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand people; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand jobs; and not __fish_seen_subcommand_from list end help" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand jobs; and not __fish_seen_subcommand_from list end help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand jobs; and not __fish_seen_subcommand_from list end help" -f -a "list" -d 'Print every job that this host has a record of'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand jobs; and not __fish_seen_subcommand_from list end help" -f -a "end" -d 'End a job\'s processes and its jobs in the scheduler, and clean up after it as its user'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand jobs; and not __fish_seen_subcommand_from list end help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand jobs; and __fish_seen_subcommand_from list" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand jobs; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand jobs; and __fish_seen_subcommand_from end" -l decision -d 'The decision id, or its beginning, if jobs of several servers have this id' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand jobs; and __fish_seen_subcommand_from end" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand jobs; and __fish_seen_subcommand_from end" -l dry-run -d 'Print which job would be ended, without ending it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand jobs; and __fish_seen_subcommand_from end" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand jobs; and __fish_seen_subcommand_from help" -f -a "list" -d 'Print every job that this host has a record of'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand jobs; and __fish_seen_subcommand_from help" -f -a "end" -d 'End a job\'s processes and its jobs in the scheduler, and clean up after it as its user'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand jobs; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and not __fish_seen_subcommand_from list pull prune help" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and not __fish_seen_subcommand_from list pull prune help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and not __fish_seen_subcommand_from list pull prune help" -f -a "list" -d 'Print the images: name, engine, digest, size, last use, and the jobs that use them'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and not __fish_seen_subcommand_from list pull prune help" -f -a "pull" -d 'Pull an image as a job\'s prepare stage does, by the site\'s rules for images'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and not __fish_seen_subcommand_from list pull prune help" -f -a "prune" -d 'Remove images that are beyond the bounds of the configuration. What a job uses stays'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and not __fish_seen_subcommand_from list pull prune help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from list" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from list" -l container -d 'Those of one `[container.NAME]`' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from list" -l store -d 'Those in this directory: a store or cache, in place of the configuration\'s' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from list" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from pull" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from pull" -l container -d 'Those of one `[container.NAME]`' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from pull" -l store -d 'Those in this directory: a store or cache, in place of the configuration\'s' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from pull" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from pull" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from prune" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from prune" -l container -d 'Those of one `[container.NAME]`' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from prune" -l store -d 'Those in this directory: a store or cache, in place of the configuration\'s' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from prune" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from prune" -l all -d 'All images that no job uses'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from prune" -l dry-run -d 'Print what would be removed, without removing it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from help" -f -a "list" -d 'Print the images: name, engine, digest, size, last use, and the jobs that use them'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from help" -f -a "pull" -d 'Pull an image as a job\'s prepare stage does, by the site\'s rules for images'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from help" -f -a "prune" -d 'Remove images that are beyond the bounds of the configuration. What a job uses stays'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand images; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand credentials; and not __fish_seen_subcommand_from refresh help" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand credentials; and not __fish_seen_subcommand_from refresh help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand credentials; and not __fish_seen_subcommand_from refresh help" -f -a "refresh" -d 'Ask the program of each `[credential.NAME]`. What was kept of one that fails stays; what has no table in any configuration goes'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand credentials; and not __fish_seen_subcommand_from refresh help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand credentials; and __fish_seen_subcommand_from refresh" -l configuration -d 'The tables of one configuration alone; nothing is removed. Otherwise those of /etc/nunbird/config.toml and of all in /etc/nunbird/configurations' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand credentials; and __fish_seen_subcommand_from refresh" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand credentials; and __fish_seen_subcommand_from refresh" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand credentials; and __fish_seen_subcommand_from help" -f -a "refresh" -d 'Ask the program of each `[credential.NAME]`. What was kept of one that fails stays; what has no table in any configuration goes'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand credentials; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and not __fish_seen_subcommand_from build update list verify login gc remove help" -l root -d 'The directory that all paths are below, for tests' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and not __fish_seen_subcommand_from build update list verify login gc remove help" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and not __fish_seen_subcommand_from build update list verify login gc remove help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and not __fish_seen_subcommand_from build update list verify login gc remove help" -f -a "build" -d 'Make a new version of a machine\'s tree, and make it the current one'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and not __fish_seen_subcommand_from build update list verify login gc remove help" -f -a "update" -d 'Build those machines again whose definition or source is newer than their tree, or whose tree is older than `max_age`'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and not __fish_seen_subcommand_from build update list verify login gc remove help" -f -a "list" -d 'Print the machines with their versions: which is current, its size and age, and whether a job uses it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and not __fish_seen_subcommand_from build update list verify login gc remove help" -f -a "verify" -d 'Compare trees with the lists that were made when they were built: contents, owners, modes, links'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and not __fish_seen_subcommand_from build update list verify login gc remove help" -f -a "login" -d 'Open a shell in the current tree, in a layer that is thrown away at its end; with --write, in a copy that becomes a new version'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and not __fish_seen_subcommand_from build update list verify login gc remove help" -f -a "gc" -d 'Remove old versions and what interrupted builds left. The current version, the newest `keep` and those that jobs use stay'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and not __fish_seen_subcommand_from build update list verify login gc remove help" -f -a "remove" -d 'Remove a machine, or one version of it that is not current. What a job uses stays'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and not __fish_seen_subcommand_from build update list verify login gc remove help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from build" -l source -d 'In place of the definition\'s source: a suite, `docker://`, `oci:` or `dir:` of an image, or the absolute path of a tarball' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from build" -l root -d 'The directory that all paths are below, for tests' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from build" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from build" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from update" -l root -d 'The directory that all paths are below, for tests' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from update" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from update" -l all -d 'All machines with definitions'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from update" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from list" -l root -d 'The directory that all paths are below, for tests' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from list" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from verify" -l root -d 'The directory that all paths are below, for tests' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from verify" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from login" -l root -d 'The directory that all paths are below, for tests' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from login" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from login" -l write -d 'Make a new version of what was changed, if the shell ends with exit status 0'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from login" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from gc" -l root -d 'The directory that all paths are below, for tests' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from gc" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from gc" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from remove" -l root -d 'The directory that all paths are below, for tests' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from remove" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from help" -f -a "build" -d 'Make a new version of a machine\'s tree, and make it the current one'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from help" -f -a "update" -d 'Build those machines again whose definition or source is newer than their tree, or whose tree is older than `max_age`'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from help" -f -a "list" -d 'Print the machines with their versions: which is current, its size and age, and whether a job uses it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from help" -f -a "verify" -d 'Compare trees with the lists that were made when they were built: contents, owners, modes, links'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from help" -f -a "login" -d 'Open a shell in the current tree, in a layer that is thrown away at its end; with --write, in a copy that becomes a new version'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from help" -f -a "gc" -d 'Remove old versions and what interrupted builds left. The current version, the newest `keep` and those that jobs use stay'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from help" -f -a "remove" -d 'Remove a machine, or one version of it that is not current. What a job uses stays'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand machines; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and not __fish_seen_subcommand_from check setup edit-config status logs prune remove help" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and not __fish_seen_subcommand_from check setup edit-config status logs prune remove help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and not __fish_seen_subcommand_from check setup edit-config status logs prune remove help" -f -a "check" -d 'Inspect this host for a runner of your own: every obstacle, what to do about it, and who can do it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and not __fish_seen_subcommand_from check setup edit-config status logs prune remove help" -f -a "setup" -d 'Check this host, add a runner, and start it as a unit of your own user manager. Run it again to add another one'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and not __fish_seen_subcommand_from check setup edit-config status logs prune remove help" -f -a "edit-config" -d 'Open the configuration of your runners in an editor, check it, and store it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and not __fish_seen_subcommand_from check setup edit-config status logs prune remove help" -f -a "status" -d 'Print your runners, and whether their units are active'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and not __fish_seen_subcommand_from check setup edit-config status logs prune remove help" -f -a "logs" -d 'Print what your units have logged'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and not __fish_seen_subcommand_from check setup edit-config status logs prune remove help" -f -a "prune" -d 'Remove images that no job uses, and the caches that were not used for the longest time, until they are below the quota'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and not __fish_seen_subcommand_from check setup edit-config status logs prune remove help" -f -a "remove" -d 'Stop your runners, and remove what `setup` made. Files of jobs and files that you have changed stay'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and not __fish_seen_subcommand_from check setup edit-config status logs prune remove help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from check" -l programs -d 'The directory of Nunbird\'s programs; by default that of this program' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from check" -l runner-program -d 'gitlab-runner; by default the one in PATH' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from check" -l image -d 'Run jobs in containers of Podman; jobs without `image:` in this one' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from check" -l store -d 'A directory on a local disk, below which Podman keeps the images of jobs; by default /var/tmp' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from check" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from setup" -l programs -d 'The directory of Nunbird\'s programs; by default that of this program' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from setup" -l runner-program -d 'gitlab-runner; by default the one in PATH' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from setup" -l image -d 'Run jobs in containers of Podman; jobs without `image:` in this one' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from setup" -l store -d 'A directory on a local disk, below which Podman keeps the images of jobs; by default /var/tmp' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from setup" -l url -d 'The URL of the GitLab server' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from setup" -l token-file -d 'A file with the runner\'s authentication token' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from setup" -l name -d 'The name of the runner, in its configuration and in findings' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from setup" -l gitlab-user -d 'Your login on the GitLab server, whose jobs alone are admitted; by default the name of your account here' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from setup" -l audience -d 'The audience of the jobs\' id tokens; by default the URL of the server' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from setup" -l ca-file -d 'Certificates of the authority that the server\'s is from, if this host does not know it' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from setup" -l prune -d 'When nunbird-prune.timer runs, as systemd.time(7) writes it: `daily`; at first `weekly`' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from setup" -l quota -d 'The most that caches of jobs may take after a prune; at first `20G`' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from setup" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from setup" -l token-stdin -d 'Read the token from standard input'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from setup" -l dry-run -d 'Print what would be written, without writing it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from setup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from edit-config" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from edit-config" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from status" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from logs" -s n -l lines -d 'Only the last N lines' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from logs" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from logs" -s f -l follow -d 'Continue with lines as they are written'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from logs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from prune" -l quota -d 'The most that caches of jobs may take: `5G`, `500M`' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from prune" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from prune" -l dry-run -d 'Print what would be removed, without removing it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from remove" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from remove" -l dry-run -d 'Print what would be removed, without removing it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from help" -f -a "check" -d 'Inspect this host for a runner of your own: every obstacle, what to do about it, and who can do it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from help" -f -a "setup" -d 'Check this host, add a runner, and start it as a unit of your own user manager. Run it again to add another one'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from help" -f -a "edit-config" -d 'Open the configuration of your runners in an editor, check it, and store it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from help" -f -a "status" -d 'Print your runners, and whether their units are active'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from help" -f -a "logs" -d 'Print what your units have logged'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from help" -f -a "prune" -d 'Remove images that no job uses, and the caches that were not used for the longest time, until they are below the quota'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from help" -f -a "remove" -d 'Stop your runners, and remove what `setup` made. Files of jobs and files that you have changed stay'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand user; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand keys" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand keys" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand keys" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand adopt" -l runner-config -d 'gitlab-runner\'s own configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand adopt" -l runner-user -d 'The account that runs gitlab-runner, as which no job runs' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand adopt" -l unit -d 'gitlab-runner\'s unit; by default the service that its processes run in' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand adopt" -l program -d 'The path of nunbird-auth, if it is not the package\'s' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand adopt" -l gitlab-server -d 'The URL of the GitLab server for files that name none, in place of the runner\'s. Needed if others than root can change gitlab-runner\'s configuration' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand adopt" -l proxy -d 'The forward proxy by which the GitLab server is reached, `http://HOST:PORT`. The environment\'s is never used' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand adopt" -l proxy-auth-file -d 'A file with one line `USER:PASSWORD` for the proxy, which only root and nunbird-keys\' account can read' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand adopt" -l configuration -d 'A configuration that runners may name. Needed for each if others than root can change gitlab-runner\'s configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand adopt" -l token -d 'An id token of a job: nothing changes unless its job would be admitted. It is not printed' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand adopt" -l allow -d 'Make the change despite errors with this code' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand adopt" -l state -d 'Where the files are kept as they were' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand adopt" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand adopt" -l dry-run -d 'Print what would change, without changing it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand adopt" -l undo -d 'Take back the last change'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand adopt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand migrate" -l gitlab-server -d 'The URL of the GitLab server, if the file has no `gitlab_server` or another one' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand migrate" -l audience -d 'The audience of the jobs\' id tokens, if the file has no `jwt_required_aud` or another one' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand migrate" -l proxy -d 'The forward proxy by which the GitLab server is reached, `http://HOST:PORT`. The environment\'s is never used' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand migrate" -l proxy-auth-file -d 'A file with one line `USER:PASSWORD` for the proxy, which only root and nunbird-keys\' account can read' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand migrate" -l output -d 'Write the text to this file in place of printing it, atomically and only if all of it could be migrated' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand migrate" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand migrate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand sweep" -l configuration -d 'The configuration' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand sweep" -l runner-user -d 'The account that runs gitlab-runner, as which no job runs' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand sweep" -l tmpdir -d 'Where gitlab-runner keeps temporary files (its TMPDIR)' -r -F
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand sweep" -l account -d 'An account whose old build directories are removed, in addition to those whose jobs are in the audit file' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand sweep" -l older-than -d 'How old a temporary file must be: a duration such as 36h, 2d or 1w' -r
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand sweep" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand sweep" -l dry-run -d 'Print what would be removed, without removing it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand sweep" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand schema" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand schema" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand completions" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand codes-page" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand codes-page" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand man" -l format -d 'Output for humans or for programs' -r -f -a "text\t'Humans'
json\t'Programs'"
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand man" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "check" -d 'Read a configuration, run its tests and inspect this host; print every finding'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "doctor" -d 'Do everything that check does, and inspect gitlab-runner\'s configuration, systemd, disk space and the kernel'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "runner-config" -d 'Print the part of gitlab-runner\'s config.toml for a configuration, or check an existing file'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "explain" -d 'Show how a job would be decided: every rule, every condition, the actual value; or what the code of a refusal means'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "test" -d 'Run the policy\'s own tests, `[[test]]` in the configuration and in more files'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "show" -d 'Print the effective configuration, with the file and line of each value'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "diff" -d 'Decide past jobs again with another configuration, and print which decisions change'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "audit" -d 'Search the audit file, and print all events of one job'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "report" -d 'Count jobs, refusals, waits, CPU time and memory of a span of time, as text or as a page with plots'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "metrics" -d 'Write counters of jobs, refusals and durations for Prometheus, as node_exporter\'s textfile collector reads them'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "people" -d 'Show and change which GitLab user each account is bound to on this host'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "jobs" -d 'List the jobs on this host with their users, start times and hosts; end one of them and clean up after it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "images" -d 'List the container images of your own jobs on this host, pull one, and remove those that no job uses'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "credentials" -d 'Ask the site\'s programs for its passwords of registries, and keep them for jobs'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "machines" -d 'Build, update, list, verify, enter and remove the trees that machines boot from, as root'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "user" -d 'Set up a runner of your own without root: check this host, add runners, start their units; remove all of it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "keys" -d 'List the signing keys of the servers, as nunbird-auth would use them'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "adopt" -d 'Switch the runners that call Jacamar CI to Nunbird, with their configurations; or back'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "migrate" -d 'Print a Jacamar CI configuration as a Nunbird configuration'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "sweep" -d 'Remove what a crashed gitlab-runner left behind: ended jobs, its old temporary files, and old build directories'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "schema" -d 'Print the JSON schema of the configuration, for editors'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "completions" -d 'Print completions for a shell'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "codes-page" -d 'Print docs/codes.md'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "man" -d 'Write the man pages into a directory'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and not __fish_seen_subcommand_from check doctor runner-config explain test show diff audit report metrics people jobs images credentials machines user keys adopt migrate sweep schema completions codes-page man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from people" -f -a "list" -d 'Print every account, with its server and the id of the GitLab user that it is bound to'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from people" -f -a "show" -d 'Print which user an account is bound to, on every server'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from people" -f -a "forget" -d 'Remove the binding of an account: its next job binds it to that job\'s user'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from people" -f -a "import" -d 'Import lines `account server user_id`: the whole file or nothing'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from people" -f -a "export" -d 'Print all bindings as a file that import and `accounts.people_file` read'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from jobs" -f -a "list" -d 'Print every job that this host has a record of'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from jobs" -f -a "end" -d 'End a job\'s processes and its jobs in the scheduler, and clean up after it as its user'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from images" -f -a "list" -d 'Print the images: name, engine, digest, size, last use, and the jobs that use them'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from images" -f -a "pull" -d 'Pull an image as a job\'s prepare stage does, by the site\'s rules for images'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from images" -f -a "prune" -d 'Remove images that are beyond the bounds of the configuration. What a job uses stays'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from credentials" -f -a "refresh" -d 'Ask the program of each `[credential.NAME]`. What was kept of one that fails stays; what has no table in any configuration goes'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from machines" -f -a "build" -d 'Make a new version of a machine\'s tree, and make it the current one'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from machines" -f -a "update" -d 'Build those machines again whose definition or source is newer than their tree, or whose tree is older than `max_age`'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from machines" -f -a "list" -d 'Print the machines with their versions: which is current, its size and age, and whether a job uses it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from machines" -f -a "verify" -d 'Compare trees with the lists that were made when they were built: contents, owners, modes, links'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from machines" -f -a "login" -d 'Open a shell in the current tree, in a layer that is thrown away at its end; with --write, in a copy that becomes a new version'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from machines" -f -a "gc" -d 'Remove old versions and what interrupted builds left. The current version, the newest `keep` and those that jobs use stay'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from machines" -f -a "remove" -d 'Remove a machine, or one version of it that is not current. What a job uses stays'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from user" -f -a "check" -d 'Inspect this host for a runner of your own: every obstacle, what to do about it, and who can do it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from user" -f -a "setup" -d 'Check this host, add a runner, and start it as a unit of your own user manager. Run it again to add another one'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from user" -f -a "edit-config" -d 'Open the configuration of your runners in an editor, check it, and store it'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from user" -f -a "status" -d 'Print your runners, and whether their units are active'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from user" -f -a "logs" -d 'Print what your units have logged'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from user" -f -a "prune" -d 'Remove images that no job uses, and the caches that were not used for the longest time, until they are below the quota'
complete -c nunbirdctl -n "__fish_nunbirdctl_using_subcommand help; and __fish_seen_subcommand_from user" -f -a "remove" -d 'Stop your runners, and remove what `setup` made. Files of jobs and files that you have changed stay'
