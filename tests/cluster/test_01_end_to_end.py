"""The stories of the embedded default, on a cluster: the same end-to-end test on both runtimes."""

from tests.local.test_walk import (  # noqa: F401
    test_a_domain_s_mail_goes_with_it_where_that_was_asked_for,
    test_a_full_mailbox_is_refused_at_rcpt,
    test_a_message_has_so_many_recipients_and_hops,
    test_a_message_over_the_limit_is_refused_before_and_after_data,
    test_a_sender_must_be_the_login_s_own,
    test_a_stranger_may_not_relay,
    test_aliases_that_lead_in_a_circle_are_named_and_harm_nobody,
    test_all_login_forms_lead_to_the_same_mailbox,
    test_an_alias_leads_to_several_and_never_takes_a_mailbox_s_address,
    test_domains_have_their_own_people_unless_they_share_them,
    test_info_writes_to_anna_who_reads_over_imap_and_pop3,
    test_messages_that_nobody_here_wrote_come_back_byte_for_byte,
    test_special_use_folders_are_there,
    test_tls_is_needed_for_a_login,
)
