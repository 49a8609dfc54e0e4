"""Small promises, on a cluster: the same end-to-end test on both runtimes."""

from tests.local.test_promises import (  # noqa: F401
    strict,
    test_an_address_comes_and_goes_and_its_password_is_the_one_that_was_chosen,
    test_imap_keeps_mail_folders_and_flags_for_several_clients,
    test_logins_in_clear_are_taken_where_the_policy_says_so,
    test_several_domains_of_one_file_take_mail_as_soon_as_they_say_so,
    test_the_connection_after_the_last_one_allowed_is_sent_away,
    test_who_has_to_log_in_and_does_not_is_refused,
)
