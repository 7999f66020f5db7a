"""The ways in which bounds, shares and rights are broken; each of the tests that are named has to notice."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = (
    # ---- paths, and how deep trees are ----
    Mutant(
        "a path of too many bytes is looked through before it is refused",
        "lib/syncline/model/names.py",
        "    if len(path) > MAX_PATH_BYTES:  # checked first",
        "    if False:  # checked first",
        (
            "tests/services/metadata/tree/test_depth.py::"
            "test_how_long_a_path_may_be_is_known_before_any_work_is_done_with_it",
        ),
    ),
    Mutant(
        "a path may have any number of names",
        "lib/syncline/model/names.py",
        '    if path.count("/") >= MAX_PATH_NAMES:\n',
        "    if False:\n",
        (
            "tests/services/metadata/tree/test_depth.py::test_a_path_of_too_many_names_is_refused_before_it_is_followed",
            (
                "tests/services/metadata/tree/test_depth.py::"
                "test_how_long_a_path_may_be_is_known_before_any_work_is_done_with_it"
            ),
        ),
    ),
    Mutant(
        "a path is normalised however long it is",
        "lib/syncline/model/names.py",
        "    if len(path) > most * MAX_PATH_BYTES or any(len(name) > most * MAX_NAME_BYTES for name in names):",
        "    if False:",
        ("tests/model/test_names.py::test_a_path_of_decomposed_names_is_composed",),
    ),
    Mutant(
        "paths of a version check are not looked at before they are followed",
        "lib/syncline/wire/paths.py",
        "        if path_problem(path):\n",
        "        if False:\n",
        ("tests/services/metadata/tree/test_depth.py::test_a_path_of_too_many_names_is_refused_before_it_is_followed",),
    ),
    Mutant(
        "whether a node is live is asked by recursion",
        "services/metadata/tree/decide.py",
        "        node = tree.node(node.parent)\n    return False\n\n\ndef decide(",
        "        return is_live(tree, tree.node(node.parent))\n    return False\n\n\ndef decide(",
        ("tests/services/metadata/tree/test_depth.py::test_a_tree_that_is_deeper_than_any_path_can_be_used_and_left",),
    ),
    Mutant(
        "a node is made however long its path is",
        "services/metadata/tree/decide.py",
        "    if not (path_length_of(tree, want.parent) + PathLength.of(want.name)).fits_in(MAX_LENGTH):",
        "    if False:",
        (
            "tests/services/metadata/tree/test_depth.py::test_what_is_made_has_no_longer_path_than_a_path_can_have",
            "tests/services/metadata/tree/test_depth.py::test_bytes_of_a_path_are_counted",
        ),
    ),
    Mutant(
        "a directory moves whatever is below it",
        "services/metadata/tree/decide.py",
        "    return node.kind is NodeKind.DIRECTORY and not (place + tree.depth_below(node.id)).fits_in(MAX_LENGTH)",
        "    return False",
        (
            "tests/services/metadata/tree/test_depth.py::test_a_directory_moves_with_all_that_is_below_it",
            "tests/services/metadata/tree/test_depth.py::test_what_comes_back_from_the_trash_may_have_become_too_deep",
        ),
    ),
    Mutant(
        "what comes back from the trash may be as deep as it likes",
        "services/metadata/tree/decide.py",
        "    if _is_too_long(tree, node, path_length_of(tree, parent) + PathLength.of(name)):",
        "    if False:",
        ("tests/services/metadata/tree/test_depth.py::test_what_comes_back_from_the_trash_may_have_become_too_deep",),
    ),
    Mutant(
        "a large directory that moves is walked through node by node",
        "services/metadata/tree/depths.py",
        "                if left <= 0:\n",
        "                if False:\n",
        (
            "tests/services/metadata/tree/test_depth.py::"
            "test_the_space_waits_for_turns_that_a_move_takes_and_not_whoever_moved_something_before",
        ),
    ),
    # ---- answers ----
    Mutant(
        "a refusal tells the manifest of what stands in the way",
        "services/metadata/tree/decide.py",
        "dataclasses.replace(result, node=_in_brief(result.node))",
        "result",
        ("tests/services/metadata/test_servicer.py::test_many_refusals_fit_into_an_answer",),
    ),
    Mutant(
        "a page is as many bytes as its entries are",
        "lib/syncline/wire/pages.py",
        "        if taken and size > PAGE_BYTES:\n",
        "        if False:\n",
        ("tests/services/metadata/test_servicer.py::test_pages_are_bounded_by_bytes_and_by_count",),
    ),
    Mutant(
        "a page has as many entries as are wished for",
        "lib/syncline/wire/pages.py",
        "    return min(wanted or usual, MAX_PAGE_ITEMS)",
        "    return wanted or usual",
        (
            "tests/services/metadata/test_servicer.py::"
            "test_a_page_has_a_thousand_entries_at_most_whatever_is_wished_for",
        ),
    ),
    Mutant(
        "a message of changes is as large as they are",
        "services/metadata/servicer.py",
        "if response.nodes and size + more > PAGE_BYTES:",
        "if False:",
        ("tests/services/metadata/test_servicer.py::test_messages_of_changes_are_bounded",),
    ),
    Mutant(
        "nodes of a page are all loaded, whatever they weigh",
        "services/metadata/tree/reads.py",
        "        if weight > PAGE_BYTES and at + len(some) < len(nodes):\n",
        "        if False:\n",
        ("tests/services/metadata/tree/test_pages_cost.py::test_a_page_of_large_manifests_loads_what_it_returns",),
    ),
    Mutant(
        "answers wait for slow readers without a bound",
        "runtime/rpc/answers.py",
        "        if not self._pool.try_take(size, share):\n",
        "        if not self._pool.try_take(size, share) and False:\n",
        (
            "tests/runtime/rpc/test_answers.py::test_one_caller_leaves_half_unread_and_others_are_answered",
            "tests/runtime/rpc/test_answers.py::test_all_callers_together_leave_no_more_unread_than_there_is_room",
        ),
    ),
    Mutant(
        "answers that wait are nobody's in particular",
        "runtime/rpc/answers.py",
        "self._kept(len(raw), current_share())",
        "self._kept(len(raw), Share.alone(str(id(raw))))",
        ("tests/runtime/rpc/test_answers.py::test_one_caller_leaves_half_unread_and_others_are_answered",),
    ),
    Mutant(
        "messages of a stream wait without a bound",
        "runtime/rpc/answers.py",
        "                    taken = self._kept(len(raw), share)\n",
        "                    taken = self._kept(0, share)\n",
        ("tests/runtime/rpc/test_answers.py::test_one_caller_leaves_half_unread_and_others_are_answered",),
    ),
    Mutant(
        "large answers of the gateway wait without a bound",
        "gateway/http/pace.py",
        '            if len(message.get("body", b"")) <= _SLICE_BYTES or message.get(ACCOUNTED, False):\n',
        "            if True:\n",
        ("tests/gateway/http/test_pace.py::test_large_answers_that_nobody_takes_are_bounded",),
    ),
    # ---- headers and bodies that libraries parse ----
    Mutant(
        "an If header of any length is parsed",
        "gateway/dav/checks.py",
        "_IF.match(value.strip()) if len(value) <= MAX_HEADER_BYTES else None",
        "_IF.match(value.strip())",
        ("tests/gateway/dav/test_checks.py::test_a_header_that_is_too_long_is_not_read",),
    ),
    Mutant(
        "WsgiDAV parses an If header as it came",
        "gateway/dav/app.py",
        '{"if": readable_if, "if-unmodified-since"',
        '{"if-unmodified-since"',
        ("tests/e2e/test_dav_headers.py::test_no_header_is_a_fault_of_the_server",),
    ),
    Mutant(
        "WsgiDAV parses headers that nobody has looked at",
        "gateway/dav/app.py",
        "            check_headers(request.headers)\n",
        "",
        ("tests/e2e/test_dav_headers.py::test_no_header_is_a_fault_of_the_server",),
    ),
    Mutant(
        "WsgiDAV parses XML that nobody has looked at",
        "gateway/dav/app.py",
        "                    check_xml(body)\n",
        "                    pass\n",
        ("tests/e2e/test_dav_headers.py::test_what_a_parser_gets_is_bounded_before_it",),
    ),
    Mutant(
        "XML may be as deep as it likes",
        "gateway/dav/checks.py",
        "if depth > _MAX_DEPTH or elements > _MAX_ELEMENTS:",
        "if elements > _MAX_ELEMENTS:",
        ("tests/gateway/dav/test_checks.py::test_xml_is_bounded_in_depth_and_elements_and_defines_nothing",),
    ),
    Mutant(
        "XML may have any number of elements",
        "gateway/dav/checks.py",
        "if depth > _MAX_DEPTH or elements > _MAX_ELEMENTS:",
        "if depth > _MAX_DEPTH:",
        ("tests/gateway/dav/test_checks.py::test_xml_is_bounded_in_depth_and_elements_and_defines_nothing",),
    ),
    Mutant(
        "XML may define entities",
        "gateway/dav/checks.py",
        "    parser.StartDoctypeDeclHandler = doctype\n",
        "",
        ("tests/gateway/dav/test_checks.py::test_xml_is_bounded_in_depth_and_elements_and_defines_nothing",),
    ),
    Mutant(
        "a body of WebDAV may have any size",
        "gateway/dav/app.py",
        "        if size > _MAX_XML_BYTES:\n",
        "        if False:\n",
        ("tests/e2e/test_dav_headers.py::test_what_a_parser_gets_is_bounded_before_it",),
    ),
    Mutant(
        "an upload by WebDAV names any number of checksums",
        "gateway/dav/checks.py",
        "    if len(told) > _MAX_CHECKSUMS:\n",
        "    if False:\n",
        ("tests/e2e/test_dav_headers.py::test_a_checksum_is_checked",),
    ),
    Mutant(
        "properties of any number are looked for",
        "gateway/dav/protocol.py",
        "            if len(names) > _MAX_NAMED_PROPERTIES:\n",
        "            if False:\n",
        ("tests/e2e/test_dav_headers.py::test_many_properties_are_not_looked_for_at_once",),
    ),
    Mutant(
        "a request has any number of headers of any size",
        "runtime/http/connection.py",
        "if self._headers > MAX_HEADERS or self._header_bytes > MAX_HEADER_SECTION_BYTES:",
        "if False:",
        ("tests/gateway/http/test_connections.py::test_what_is_no_http_is_a_problem_too",),
    ),
    Mutant(
        "an address has any length",
        "runtime/http/connection.py",
        "        if self._address_bytes > MAX_ADDRESS_BYTES:\n",
        "        if False:\n",
        ("tests/gateway/http/test_connections.py::test_what_is_no_http_is_a_problem_too",),
    ),
    Mutant(
        "a header without an end is read for ever",
        "runtime/http/connection.py",
        "            if self._fed > _MAX_LINES_BYTES:\n",
        "            if False:\n",
        ("tests/gateway/http/test_connections.py::test_a_line_that_does_not_end_is_ended_wherever_it_begins",),
    ),
    Mutant(
        "headers before the settings are acknowledged have any size",
        "runtime/rpc/intake.py",
        "        if reader.unacknowledged_bytes > MAX_UNACKNOWLEDGED_BYTES:\n",
        "        if False:\n",
        ("tests/runtime/rpc/test_frames.py::test_headers_before_the_settings_are_acknowledged_have_few_bytes",),
    ),
    Mutant(
        "a connection has any number of small frames",
        "runtime/rpc/intake.py",
        "            self._frames.admit(Work.ANONYMOUS, connection.peer, small)\n",
        "            pass\n",
        ("tests/runtime/rpc/test_intake.py::test_a_message_of_tiny_frames_ends_its_connection",),
    ),
    Mutant(
        "calls do not pay for their frames",
        "runtime/rpc/intake.py",
        "        connection.unpaid -= SMALL_FRAMES_PER_CALL\n",
        "",
        ("tests/runtime/rpc/test_intake.py::test_calls_with_good_tokens_pay_for_their_frames",),
    ),
    Mutant(
        "the connections of a network have any number of small frames together",
        "runtime/rpc/intake.py",
        "                connection.rest(late)\n",
        "                pass\n",
        ("tests/runtime/rpc/test_intake.py::test_small_frames_of_many_connections_of_a_network_are_read_bit_by_bit",),
    ),
    Mutant(
        "all calls of a network are handed on to grpc as they come",
        "runtime/rpc/intake.py",
        "max(0, CALLS_AHEAD - network.ahead)",
        "math.inf",
        (
            "tests/runtime/rpc/test_beginning.py"
            "::test_calls_on_many_connections_are_not_all_handed_in_before_one_of_another_network",
        ),
    ),
    Mutant(
        "any number of calls of a network wait for their turn",
        "runtime/rpc/intake.py",
        "0 if self._waiting(network.name) >= CALLS_WAITING else ",
        "",
        ("tests/runtime/rpc/test_intake.py::test_no_call_is_handed_on_while_many_of_its_network_wait_for_their_turn",),
    ),
    Mutant(
        "calls that grpc never hands in are waited for",
        "runtime/rpc/intake.py",
        "        if network.is_stuck:\n",
        "        if False:\n",
        ("tests/runtime/rpc/test_intake.py::test_calls_that_grpc_never_hands_in_stop_nobody_for_long",),
    ),
    Mutant(
        "calls wait for their turn while the loop is idle",
        "runtime/rpc/beginning.py",
        "        is_idle = now - since < IDLE_SECONDS\n",
        "        is_idle = False\n",
        (
            "tests/runtime/rpc/test_beginning.py::test_calls_of_one_network_do_not_wait_for_each_other_while_the_loop_is_idle",
        ),
    ),
    Mutant(
        "large batches of version checks take no turn",
        "runtime/turns.py",
        "    if count > SLICE_ITEMS:\n",
        "    if False:\n",
        ("tests/services/metadata/test_servicer.py::test_large_batches_of_version_checks_take_turns",),
    ),
    Mutant(
        "the connection of the gateway is never known",
        "runtime/rpc/call_network.py",
        "            self._on_proven(transport)\n",
        "",
        ("tests/runtime/rpc/test_intake.py::test_the_gateway_goes_on_when_its_network_is_shut_out",),
    ),
    Mutant(
        "a network is known from the first good token of a connection on",
        "runtime/rpc/intake.py",
        "        if (now := self._clock()) >= connection.noted_until:\n",
        "        if (now := self._clock()) >= connection.noted_until and not connection.known:\n",
        ("tests/runtime/rpc/test_intake.py::test_a_network_is_known_from_its_last_good_token_on",),
    ),
    Mutant(
        "a network of strangers is never shut out",
        "runtime/rpc/intake.py",
        "            self._shut_out[network] = None\n",
        "",
        ("tests/runtime/rpc/test_intake.py::test_a_network_of_strangers_is_shut_out_and_nobody_else",),
    ),
    Mutant(
        "connections with good tokens are cut with those of strangers",
        "runtime/rpc/intake.py",
        "                if not connection.known:\n                    self._cut(",
        "                if True:\n                    self._cut(",
        ("tests/runtime/rpc/test_intake.py::test_a_network_of_strangers_is_shut_out_and_nobody_else",),
    ),
    Mutant(
        "nobody is let in from a network that is shut out",
        "runtime/rpc/intake.py",
        "                self._admitted.admit(Work.ANONYMOUS, network)\n                return True\n",
        "                return False\n",
        ("tests/runtime/rpc/test_intake.py::test_who_was_signed_in_is_let_in_from_a_network_that_is_shut_out",),
    ),
    Mutant(
        "one network has all connections of a service",
        "runtime/connection_pool.py",
        'return Share.alone(f"{address} {port}" if self.is_trusted(address) else network_of(address))',
        'return Share.alone(f"{address} {port}")',
        ("tests/runtime/rpc/test_intake.py::test_a_network_has_as_many_connections_of_a_service_as_it_leaves_free",),
    ),
    Mutant(
        "messages of any size are received before they are refused",
        "runtime/rpc/server.py",
        "    return min(most, RECEIVED_SIZE_FACTOR * max(large, default=MAX_SMALL_REQUEST_BYTES))\n",
        "    return most\n",
        (
            "tests/runtime/rpc/test_request_bounds.py::test_a_service_receives_little_more_than_its_largest_request",
            (
                "tests/runtime/rpc/test_request_bounds.py::"
                "test_a_message_that_is_far_too_large_is_refused_when_its_size_is_known"
            ),
        ),
    ),
    Mutant(
        "the last message of a call stays until garbage is collected",
        "runtime/rpc/requests.py",
        "_: object, context: Context) -> Any:\n            async with arrived(context.read) as request:\n",
        "_: Any, context: Context) -> Any:\n            async with arrived(_.__anext__) as request:\n",
        ("tests/runtime/rpc/test_requests.py::test_nothing_keeps_a_request_when_its_call_has_ended",),
    ),
    Mutant(
        "what has come by a stream is counted no more when it is handed on",
        "runtime/rpc/requests.py",
        "                self._pool.give(held, share)\n"
        '                held = bound.parsed_bytes(len(message or b""))\n',
        '                self._pool.give(bound.parsed_bytes(len(message or b"")), share)\n                held = 0\n',
        ("tests/runtime/rpc/test_requests.py::test_the_last_message_of_a_stream_counts_until_the_next_one_or_the_end",),
    ),
    Mutant(
        "any number of messages of streams arrive at once",
        "runtime/rpc/requests.py",
        'Pool("arriving", MAX_ARRIVING_MESSAGES, counted=True)',
        'Pool("arriving", 1 << 20, counted=True)',
        (
            "tests/runtime/rpc/test_requests.py::"
            "test_messages_of_streams_that_arrive_are_bounded_in_total_and_for_one_caller",
        ),
    ),
    Mutant(
        "strangers fill what is kept for those whom a person knows",
        "services/auth/grants.py",
        "        for_strangers = most - most // KEPT_FOR_KNOWN\n",
        "        for_strangers = most\n",
        (
            "tests/services/auth/test_holdings.py::"
            "test_many_accounts_of_strangers_leave_room_for_those_whom_a_person_knows",
        ),
    ),
    Mutant(
        "the bytes of one request count to the head of the next",
        "runtime/http/connection.py",
        "in_lines and self._begun == begun and not self._is_refused",
        "in_lines and not self._is_refused",
        ("tests/gateway/http/test_connections.py::test_a_head_may_be_as_large_as_it_may_in_whatever_pieces_it_comes",),
    ),
    Mutant(
        "a connection asks ahead as much as it likes",
        "runtime/http/connection.py",
        "        if len(self.pipeline) > MAX_PIPELINED_REQUESTS:\n",
        "        if False:\n",
        ("tests/gateway/http/test_connections.py::test_a_connection_asks_only_so_much_ahead",),
    ),
    Mutant(
        "a content has any time that somebody sends",
        "lib/syncline/model/tree.py",
        "        if not FIRST_TIME_NS <= self.mtime_ns <= LAST_TIME_NS:\n",
        "        if False:\n",
        (
            "tests/clients/sync/test_oddities.py::test_a_content_holds_no_time_that_cannot_be_stored",
            "tests/gateway/api/test_uploads.py::test_a_file_may_be_of_any_time",
        ),
    ),
    Mutant(
        "REST takes any number for a time",
        "gateway/api/models.py",
        "Annotated[int, Field(ge=-62_135_596_800_000, le=253_402_300_799_999)]",
        "Annotated[int, Field()]",
        ("tests/gateway/api/test_uploads.py::test_a_time_that_nobody_means_is_refused",),
    ),
    Mutant(
        "cookies of others are parsed",
        "gateway/http/headers.py",
        "for one in every if _OWN_COOKIE.fullmatch(one))",
        "for one in every)",
        (
            "tests/gateway/http/test_cookies.py::test_others_are_not",
            "tests/gateway/http/test_cookies.py::test_our_cookies_are_seen",
        ),
    ),
    # ---- seals ----
    Mutant(
        "a call seals as many objects as it likes",
        "services/metadata/servicer.py",
        "        if len(request.objects) > MAX_SEAL_DECLARATIONS:\n",
        "        if False:\n",
        ("tests/services/metadata/test_servicer.py::test_what_one_request_asks_for_is_bounded",),
    ),
    Mutant(
        "a call looks for as many objects as it likes",
        "services/metadata/servicer.py",
        "    if len(raw) > most * DIGEST_BYTES:\n",
        "    if False:\n",
        ("tests/services/metadata/test_servicer.py::test_what_one_request_asks_for_is_bounded",),
    ),
    Mutant(
        "a version check has batches of any size",
        "services/metadata/servicer.py",
        "        if count > MAX_CHECK_FILES:\n",
        "        if False:\n",
        ("tests/services/metadata/test_servicer.py::test_what_one_request_asks_for_is_bounded",),
    ),
    Mutant(
        "an object is read for each call that declares it",
        "services/metadata/sealing.py",
        "            proofs |= {one: mine.proven[one, removals] for one in forms if (one, removals) in mine.proven}\n",
        "",
        (
            "tests/services/metadata/test_sealing_is_shared.py::test_an_object_is_read_once_however_many_calls_declare_it_at_once",
        ),
    ),
    Mutant(
        "a call has as many bytes read as it declares",
        "services/metadata/sealing.py",
        "        if sum(max(map(_bytes_to_read, each)) for each in forms.values()) > MAX_SEAL_READ_BYTES:\n",
        "        if False:\n",
        ("tests/services/metadata/test_sealing_is_shared.py::test_a_call_that_has_too_much_read_is_refused_unread",),
    ),
    Mutant(
        "what a call has read is what it declared, whatever lies there",
        "services/metadata/sealing.py",
        "        if self.left < 0:\n",
        "        if False:\n",
        (
            "tests/services/metadata/test_sealing_is_shared.py::"
            "test_what_storage_has_no_checksum_of_counts_by_its_real_size",
        ),
    ),
    Mutant(
        "an object is declared as any number of things",
        "services/metadata/sealing.py",
        "        if any(len(each) > MAX_SEAL_FORMS for each in forms.values()):\n",
        "        if False:\n",
        ("tests/services/metadata/test_sealing_is_shared.py::test_too_many_forms_of_one_object_are_refused_unread",),
    ),
    Mutant(
        "a caller has as many seals under way as are asked for",
        "services/metadata/sealing.py",
        "            async with self._calls.lent(1, reading.share):\n",
        "            async with self._calls.lent(0, reading.share):\n",
        ("tests/services/metadata/test_sealing_is_shared.py::test_calls_that_wait_are_bounded",),
    ),
    Mutant(
        "a call looks for all that is not there",
        "services/metadata/sealing.py",
        "        return self.unproven - self.removed >= MAX_UNPROVEN_OBJECTS\n",
        "        return False\n",
        ("tests/services/metadata/test_sealing_is_shared.py::test_a_call_ends_when_too_much_is_not_there",),
    ),
    Mutant(
        "a commit asks storage for each object that is not sealed",
        "services/metadata/sealing.py",
        "        asked = unsealed[: max(0, MAX_UNSEALED_LOOKUPS - unsealed_before)]\n",
        "        asked = unsealed\n",
        ("tests/services/metadata/test_sealing_is_shared.py::test_a_commit_looks_for_a_few_unsealed_objects_only",),
    ),
    Mutant(
        "an archive of nested directories lists the innermost ones again and again",
        "gateway/api/trees.py",
        " if paths.isdisjoint(map(str, PurePosixPath(path).parents))]",
        "]",
        ("tests/gateway/api/test_nodes.py::test_a_directory_within_another_one_is_listed_once_for_a_zip",),
    ),
    Mutant(
        "what the kernel holds of a download is sent although the right has ended",
        "runtime/http/connection.py",
        "        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)\n",
        "        pass\n",
        ("tests/gateway/http/test_connections.py::test_nothing_of_a_content_arrives_once_the_right_to_it_has_ended",),
    ),
    Mutant(
        "a download without a right to it ends in order",
        "gateway/content/download.py",
        "            if self._has_ended:\n",
        "            if False:\n",
        ("tests/gateway/http/test_connections.py::test_nothing_of_a_content_arrives_once_the_right_to_it_has_ended",),
    ),
    Mutant(
        "the kernel holds megabytes of an answer",
        "runtime/http/connection.py",
        "            connection.setsockopt(socket.IPPROTO_TCP, option, MAX_UNSENT_BYTES)\n",
        "            pass\n",
        ("tests/gateway/http/test_connections.py::test_the_kernel_holds_little_of_a_content_for_a_slow_client",),
    ),
    Mutant(
        "reads of many items are granted in the order of arrival",
        "aws/dynamodb.py",
        "self._long_reads.lent(1, current_share(), patience=None)",
        "self._long_reads.lent(0, current_share(), patience=None)",
        ("tests/aws/test_dynamodb.py::test_long_reads_of_one_caller_leave_places_for_others",),
    ),
    Mutant(
        "questions of objects have any number of lookups in progress",
        "services/metadata/sealing.py",
        "                        async with self._lookups.lent(1, share):\n",
        "                        async with self._lookups.lent(0, share):\n",
        ("tests/services/metadata/test_sealing_is_shared.py::test_small_questions_of_one_caller_leave_room_as_well",),
    ),
    Mutant(
        "any number of questions of objects is in progress",
        "services/metadata/sealing.py",
        "            async with self._finds.lent(1, share) if is_long else nullcontext():\n",
        "            async with nullcontext():\n",
        ("tests/services/metadata/test_sealing_is_shared.py::test_questions_of_one_caller_that_wait_are_bounded",),
    ),
    Mutant(
        "a question of many objects costs as much as one of a few",
        "services/metadata/sealing.py",
        "            charge(looked_up // LOOKUPS_PER_CALL)\n",
        "            pass\n",
        ("tests/services/metadata/test_sealing_is_shared.py::test_a_question_costs_what_is_looked_up",),
    ),
    Mutant(
        "a question of many objects takes no turns",
        "services/metadata/sealing.py",
        "                async for some in slices(tuple(digests), share.caller, size=_RECORDS_AT_ONCE):\n",
        "                for some in _slices(digests, _RECORDS_AT_ONCE):\n",
        (
            "tests/services/metadata/test_sealing_is_shared.py::test_a_question_of_many_objects_gives_way_before_each_slice",
        ),
    ),
    Mutant(
        "requests to storage are not shared out",
        "services/metadata/sealing.py",
        "        async with self._heads.lent(1, share):\n",
        '        async with self._heads.lent(1, Share.alone("all")):\n',
        ("tests/services/metadata/test_sealing_is_shared.py::test_requests_to_storage_are_shared",),
    ),
    Mutant(
        "a request id whose answer is forgotten makes its nodes again",
        "services/metadata/journal/commit.py",
        "            if reused := await self._reused(batch):\n",
        "            if reused := []:\n",
        ("tests/services/metadata/test_servicer.py::test_a_request_id_makes_each_node_once",),
    ),
    Mutant(
        "bytes that are being proven are not shared out",
        "services/metadata/sealing.py",
        "        async with self._reads.lent(stored.size, reading.share):\n",
        '        async with self._reads.lent(stored.size, Share.alone("all")):\n',
        (
            "tests/services/metadata/test_sealing_is_shared.py::"
            "test_somebody_else_has_a_large_pack_read_beside_those_of_one_caller",
        ),
    ),
    Mutant(
        "a manifest is compared to its end, whatever is missing",
        "services/metadata/sealing.py",
        "                if await asyncio.to_thread(_not_held, refs, objects):\n                    return SealVerdict",
        "                if False:\n                    return SealVerdict",
        (
            "tests/services/metadata/test_sealing_is_shared.py::"
            "test_a_manifest_ends_at_the_first_block_that_is_not_sealed",
        ),
    ),
    Mutant(
        "a manifest is compared on the event loop",
        "services/metadata/sealing.py",
        "            if doubtful := await asyncio.to_thread(_not_held, refs, objects):\n",
        "            if doubtful := _not_held(refs, objects):\n",
        (
            "tests/services/metadata/test_sealing_is_shared.py::"
            "test_a_manifest_of_many_blocks_is_proven_outside_the_loop",
        ),
    ),
    Mutant(
        "objects are hashed on the event loop",
        "services/metadata/sealing.py",
        "            if await asyncio.to_thread(_sha256, data) != digest:\n",
        "            if _sha256(data) != digest:\n",
        ("tests/services/metadata/test_sealing_is_shared.py::test_bytes_are_hashed_outside_the_loop",),
    ),
    Mutant(
        "packs are proven on the event loop",
        "services/metadata/sealing.py",
        "                        proof = await asyncio.to_thread(_prove_pack, data, pack)\n",
        "                        proof = _prove_pack(data, pack)\n",
        ("tests/services/metadata/test_sealing_is_shared.py::test_bytes_are_hashed_outside_the_loop",),
    ),
    Mutant(
        "bytes that were wrong are read again",
        "services/metadata/sealing.py",
        "            elif (refused := self._refused.get((space, _fingerprint(one)))) is not None:\n",
        "            elif (refused := self._refused.get((space, _fingerprint(one)))) is not None and False:\n",
        (
            "tests/services/metadata/test_sealing_is_shared.py::"
            "test_what_bytes_were_found_not_to_be_is_not_looked_at_again",
        ),
    ),
    Mutant(
        "a commit names any number of blocks of packs",
        "services/metadata/sealing.py",
        "            if entries > _MAX_LOOKED_AT_ENTRIES:\n",
        "            if False:\n",
        (
            "tests/services/metadata/test_sealing_is_shared.py::"
            "test_a_commit_that_names_too_many_packs_of_many_blocks_is_refused",
        ),
    ),
    # ---- quotas ----
    Mutant(
        "the spaces of a person have no quota together",
        "services/auth/adapters/dynamodb.py",
        "quota_bytes=quota_bytes if limits else None",
        "quota_bytes=None",
        ("tests/contract/auth/test_reservations.py::test_a_quota_is_not_exceeded_and_nothing_changes_then",),
    ),
    Mutant(
        "a space counts for whoever made it, even if somebody else has taken it over",
        "services/auth/quotas.py",
        "        if payer is None or not _owns(grants.get(payer)):\n",
        "        if payer is None:\n",
        ("tests/services/auth/test_quotas.py::test_a_space_counts_for_whoever_takes_it_over",),
    ),
    Mutant(
        "versions take bytes that nobody has reserved",
        "services/metadata/journal/commit.py",
        " or not await self._is_reserved(entry):\n",
        ":\n",
        (
            "tests/services/metadata/journal/test_reserving.py::test_bytes_are_reserved_before_versions_take_them",
            "tests/services/metadata/journal/test_reserving.py::test_what_others_have_taken_meanwhile_is_decided_anew",
        ),
    ),
    Mutant(
        "a refusal for want of quota is decided on what was remembered",
        "services/metadata/journal/commit.py",
        "            if not has_current_quota and not self._is_journal_full and any(map(_lacks_quota, decided)):\n",
        "            if False:\n",
        ("tests/services/metadata/journal/test_reserving.py::test_a_larger_quota_takes_effect_at_once",),
    ),
    # ---- what is uploaded and not sealed ----
    Mutant(
        "no space is closed to uploads",
        "services/metadata/quota.py",
        "        refused = with_versions > quota.quota_bytes or too_much_stored\n",
        "        refused = False\n",
        (
            "tests/services/metadata/test_quota.py::test_what_is_unsealed_comes_on_top_of_what_versions_use",
            (
                "tests/services/metadata/test_quota.py::"
                "test_what_is_sealed_and_in_no_version_has_twice_the_quota_as_its_limit"
            ),
        ),
    ),
    Mutant(
        "an object is sealed while its removal is under way",
        "services/metadata/sealing.py",
        "if removal.until_ms >= now_ms}",
        "if False}",
        ("tests/services/metadata/journal/test_discarding.py::test_a_seal_at_any_moment_of_a_removal_loses_nothing",),
    ),
    Mutant(
        "a table that does not know the space removes what is in it",
        "services/metadata/quota.py",
        "        return before_ms if since_ms < before_ms else 0\n",
        "        return before_ms\n",
        (
            "tests/services/metadata/journal/test_discarding.py::"
            "test_nothing_goes_by_a_table_that_has_not_known_the_space_for_long",
        ),
    ),
    Mutant(
        "a table from a backup removes what was sealed since",
        "services/metadata/quota.py",
        "        return before.since_ms if is_watched else now_ms\n",
        "        return before.since_ms or now_ms\n",
        (
            "tests/services/metadata/journal/test_discarding.py::"
            "test_nothing_goes_by_a_table_that_has_not_measured_the_space_of_late",
        ),
    ),
    Mutant(
        "a process that has lost its lease keeps its measure of uploads",
        "services/metadata/adapters/dynamodb_measures.py",
        """            await self._items.put(item, "dirty_until = :lease", {":lease": attribute(lease_ms)})\n""",
        """            await self._items.put(item, ":lease = :lease", {":lease": attribute(lease_ms)})\n""",
        ("tests/contract/metadata/test_measures.py::test_who_has_lost_the_lease_saves_nothing",),
    ),
    Mutant(
        "a measure of uploads can have the time of an earlier one",
        "services/metadata/quota.py",
        "max(self._now_ms(), before.at_ms + 1)",
        "self._now_ms()",
        ("tests/services/metadata/test_quota.py::test_each_measure_has_a_later_time_also_by_a_clock_that_is_behind",),
    ),
    Mutant(
        "auth goes by what it is told last of the uploads of a space, not by what was measured last",
        "services/auth/adapters/dynamodb.py",
        '"attribute_not_exists(measured_at) OR measured_at <= :at"',
        '"attribute_not_exists(measured_at) OR measured_at <> :at OR measured_at = :at"',
        ("tests/contract/auth/test_store.py::test_what_was_said_last_of_the_uploads_of_a_space_is_kept",),
    ),
    Mutant(
        "a refusal of uploads that nobody renews lasts for ever",
        "services/auth/uploads.py",
        " and self._clock() < measured.measured_at_ms + REFUSAL_SECONDS * SECOND_MS",
        "",
        (
            "tests/services/auth/test_uploads.py::"
            "test_a_refusal_that_nobody_renews_ends_and_the_space_is_measured_again",
        ),
    ),
    Mutant(
        "what has another name than a digest stays for ever",
        "services/metadata/quota.py",
        "                if one.modified_at_ms < remove_before_ms:\n",
        "                if one.digest is not None and one.modified_at_ms < remove_before_ms:\n",
        (
            "tests/services/metadata/journal/test_discarding.py::test_what_has_another_name_than_a_digest_goes_after_a_week_too",
        ),
    ),
    # ---- what a page costs ----
    Mutant(
        "a page of a directory in memory goes through all of it",
        "services/metadata/tree/children.py",
        "        for name in self._ordered.irange(minimum=after, inclusive=(False, True)):\n",
        "        for name in [name for name in sorted(self._ordered) if name > after]:\n",
        ("tests/services/metadata/tree/test_pages_cost.py::test_of_a_directory_that_memory_knows",),
    ),
    Mutant(
        "a page of the table goes through all that memory holds of a directory",
        "services/metadata/tree/view.py",
        "        found.update(islice(within, limit + 1))\n",
        "        found.update(within)\n",
        (
            "tests/services/metadata/tree/test_pages_cost.py::test_of_a_directory_of_which_memory_knows_more_than_the_table",
        ),
    ),
    Mutant(
        "a page of the trash goes through all of it that the table lacks",
        "services/metadata/tree/view.py",
        "        found.update(islice(in_tail, limit + 1))\n",
        "        found.update(in_tail)\n",
        ("tests/services/metadata/tree/test_pages_cost.py::test_of_the_trash_while_the_table_lags",),
    ),
    Mutant(
        "a page of versions goes through all that the table lacks",
        "services/metadata/tree/view.py",
        "        states = [result.node for result in self._tail_results.get(node, ())]\n",
        "        states = [r.node for e in self.tail for r in e.accepted() if r.node and r.node.id == node]\n",
        ("tests/services/metadata/tree/test_pages_cost.py::test_of_the_versions_of_a_file_while_the_table_lags",),
    ),
    # ---- contents and bodies of the gateway ----
    Mutant(
        "manifests that are objects take no memory of a pool",
        "gateway/content/assemble.py",
        "        await pool.take(taken, share)\n",
        "        pool._grant(taken, share)\n",
        (
            "tests/gateway/content/test_assemble.py::"
            "test_what_a_content_says_of_its_size_takes_memory_before_its_manifest_is_read",
        ),
    ),
    Mutant(
        "a manifest is read for each range",
        "gateway/content/assemble.py",
        "        held = self._manifests.get(name)\n        if held is None:",
        "        held = None\n        if held is None:",
        (
            "tests/gateway/content/test_assemble.py::test_a_large_manifest_is_read_once_for_all_who_want_it_at_the_same_time",
        ),
    ),
    Mutant(
        "manifests larger than their contents suggest are read all at once",
        "gateway/content/assemble.py",
        "        async with self._memory.large_manifests.lent(1, share):\n",
        "        if True:\n",
        (
            "tests/gateway/content/test_assemble.py::test_manifests_take_memory_of_the_pool_and_large_ones_one_after_the_other",
        ),
    ),
    Mutant(
        "a large body of a stranger is read",
        "gateway/http/bodies.py",
        "                share = share_of(request, await identified(request))\n",
        "                share = Share.alone(self._own.network(request))\n",
        ("tests/gateway/http/test_bodies.py::test_a_large_body_of_a_stranger_is_refused_before_it_is_read",),
    ),
    Mutant(
        "a body may be as large as it likes",
        "gateway/http/bodies.py",
        "        if length is not None and length > MAX_BODY_BYTES:\n",
        "        if False:\n",
        ("tests/gateway/api/test_bad_input.py::test_a_body_that_is_too_large",),
    ),
    Mutant(
        "a body that does not tell its length may be as large as it likes",
        "gateway/http/bodies.py",
        "            if size > limit:\n",
        "            if False:\n",
        ("tests/gateway/http/test_bodies.py::test_a_body_of_unknown_length_is_refused_once_it_is_too_large",),
    ),
    Mutant(
        "small bodies do not count",
        "gateway/http/bodies.py",
        "            await taken.enter_async_context(self._memory.lent(reserved, share))\n",
        "            pass\n",
        (
            "tests/gateway/http/test_bodies.py::"
            "test_bodies_that_never_end_hold_no_more_than_the_pool_and_a_small_one_gets_through",
        ),
    ),
    Mutant(
        "large bodies do not count",
        "gateway/http/bodies.py",
        "                await taken.enter_async_context(self._memory.lent(limit - reserved, share))\n",
        "                pass\n",
        ("tests/gateway/http/test_bodies.py::test_whoever_is_known_may_send_a_large_body",),
    ),
    Mutant(
        "a pool grants whatever is asked of it",
        "runtime/pool.py",
        "        if not self._fits(size) or not self._may(size, share) or self._first() is not None:\n",
        "        if False:\n",
        (
            "tests/runtime/test_pool.py::test_one_alone_gets_half_and_whoever_comes_next_finds_something",
            "tests/gateway/content/test_assemble.py::test_downloads_share_a_budget_and_all_get_on",
        ),
    ),
    Mutant(
        "one caller may hold all of a pool",
        "runtime/pool.py",
        "(not caller or caller + size <= left)",
        "True",
        (
            "tests/runtime/test_pool.py::test_one_alone_gets_half_and_whoever_comes_next_finds_something",
            "tests/gateway/content/test_assemble.py::test_slow_visitors_of_one_link_leave_memory_for_a_member_next_to_them",
            "tests/services/metadata/test_sealing_is_shared.py::test_requests_to_storage_are_shared",
        ),
    ),
    Mutant(
        "many callers of one network may hold all of a pool",
        "runtime/pool.py",
        "(not network or network + size <= factor * left)",
        "True",
        (
            "tests/runtime/test_pool.py::test_a_network_of_many_callers_does_not_get_all",
            "tests/services/auth/test_passwords.py::test_more_than_can_be_served_soon_are_told_at_once_to_come_back",
        ),
    ),
    Mutant(
        "whoever came first to a pool is served first",
        "runtime/pool.py",
        "key=self._rank, default=None)",
        "key=lambda one: one.number, default=None)",
        (
            "tests/runtime/test_pool.py::test_of_those_who_may_have_what_is_free_whoever_holds_least_is_served_first",
            "tests/runtime/test_pool.py::test_whoever_comes_once_waits_one_turn_behind_one_who_comes_often",
        ),
    ),
    Mutant(
        "a connection on which nothing is read is kept",
        "runtime/rpc/answers.py",
        "call_later(patience, ",
        "call_later(10**6, ",
        (
            "tests/runtime/rpc/test_answers.py::"
            "test_the_connection_of_one_who_does_not_read_ends_whatever_deadline_a_call_has",
        ),
    ),
    Mutant(
        "any number of requests wait for a pool",
        "runtime/pool.py",
        "        if self._refuses and (\n",
        "        if False and (\n",
        ("tests/runtime/test_pool.py::test_too_many_that_wait_are_refused_and_say_when_to_come_back",),
    ),
    Mutant(
        "requests wait for a pool without end",
        "runtime/pool.py",
        "            async with asyncio.timeout(patience):\n",
        "            async with asyncio.timeout(None):\n",
        ("tests/runtime/test_pool.py::test_patience_has_an_end",),
    ),
    Mutant(
        "small reads wait behind large ones",
        "gateway/content/assemble.py",
        "        return self._small if size <= self._most else self._large",
        "        return self._large",
        ("tests/gateway/content/test_assemble.py::test_small_reads_have_a_reserve_that_large_ones_never_take",),
    ),
    Mutant(
        "a download takes no memory of a pool",
        "gateway/content/assemble.py",
        "await self._memory.pool(following.length).take(following.length, share, patience=patience)",
        "self._memory.pool(following.length)._grant(following.length, share)",
        (
            "tests/gateway/content/test_assemble.py::test_downloads_share_a_budget_and_all_get_on",
            "tests/gateway/content/test_assemble.py::test_a_download_that_cannot_begin_says_when_to_come_back",
        ),
    ),
    Mutant(
        "a device that is revoked can still make keys",
        "services/auth/keys.py",
        "            made_by=device,\n",
        "            made_by=None,\n",
        ("tests/services/auth/test_endings.py::test_the_keys_of_a_device_end_with_it_and_no_others",),
    ),
    Mutant(
        "a store takes what a revoked device makes",
        "services/auth/adapters/dynamodb.py",
        "return [] if maker is None else [self._table.checking",
        "return [] if maker is not None else [self._table.checking",
        ("tests/contract/auth/test_store.py::test_a_device_that_has_ended_makes_nothing_any_more",),
    ),
    Mutant(
        "a deleted space gives its members their rights",
        "services/auth/adapters/dynamodb.py",
        "                if grant.space not in deleted and grant.user not in suspended\n",
        "                if grant.user not in suspended\n",
        (
            "tests/contract/auth/test_space_changes.py::"
            "test_a_deleted_space_gives_no_right_and_gives_the_same_as_before_when_it_is_back",
        ),
    ),
    Mutant(
        "who is no owner any more deletes a space",
        "services/auth/adapters/dynamodb.py",
        "                self._checks_admin(by) if as_admin else is_owner,\n",
        "",
        ("tests/contract/auth/test_space_changes.py::test_a_change_of_a_space_that_moved_meanwhile_is_not_made",),
    ),
    Mutant(
        "a space is undeleted after its time",
        "services/auth/space_changes.py",
        "            if found.deletion is not None and not found.deletion.is_reversible(self._clock()):\n",
        "            if False:\n",
        ("tests/services/auth/test_space_changes.py::test_after_its_days_a_deleted_space_is_gone_for_everybody",),
    ),
    Mutant(
        "deleted spaces do not count",
        "services/auth/spaces.py",
        "and is_counted(one, now_ms=now) for one in found",
        "and one.deletion is None for one in found",
        ("tests/services/auth/test_space_changes.py::test_deleting_is_no_way_around_the_limit_of_spaces",),
    ),
    Mutant(
        "links of a deleted space are dropped to make room",
        "services/auth/links.py",
        "            kept = [one for one in made if opens_after_undeletion(one, deletions, now_ms=self._clock())]\n",
        "            kept = list[Link]()\n",
        ("tests/services/auth/test_space_changes.py::test_links_of_a_deleted_space_are_not_dropped_to_make_room",),
    ),
    Mutant(
        "a watch of a deleted space ends",
        "clients/python/syncline/sync/watch.py",
        "                except SpaceDeleted as error:\n                    failure = meaning(error)\n",
        "",
        ("tests/e2e/test_space_life.py::test_a_syncing_device_waits_for_a_deleted_space_and_goes_on",),
    ),
    Mutant(
        "a copy that comes again leaves the keys of the device",
        "services/auth/sessions.py",
        "    is_revoked = device.revoked_at_ms is not None\n",
        "    is_revoked = device.revoked_at_ms is not None\n"
        "    if is_revoked:\n        return RefreshTokenState.REVOKED\n",
        ("tests/services/auth/test_endings.py::test_keys_that_outlived_a_copied_device_end_when_the_copy_comes_again",),
    ),
    Mutant(
        "what ends with a device is broken off when its caller goes away",
        "services/auth/endings.py",
        "return await asyncio.shield(task)",
        "return await task",
        ("tests/services/auth/test_endings.py::test_whoever_brings_a_copy_and_goes_away_keeps_no_key",),
    ),
    Mutant(
        "what was made by a device ends for whoever names the device",
        "services/auth/endings.py",
        "await self._devices.keys_of(maker) if key.user == user]",
        "await self._devices.keys_of(maker)]",
        ("tests/services/auth/test_endings.py::test_what_a_device_has_made_ends_when_its_record_has_expired",),
    ),
    Mutant(
        "a device that ends itself ends before what it has made",
        "services/auth/endings.py",
        "        if ending.device_last:\n",
        "        if False:\n",
        (
            "tests/services/auth/test_endings.py::test_what_cannot_be_ended_keeps_a_device_from_ending_itself_and_no_other_from_ending_it",
        ),
    ),
    Mutant(
        "an end that was begun is not noted",
        "services/auth/endings.py",
        "                await self._notes.begin_ending(ending)\n",
        "                pass\n",
        ("tests/services/auth/test_endings.py::test_at_whatever_write_a_process_is_killed_the_next_one_goes_on",),
    ),
    Mutant(
        "nobody goes on with an end that a process has left",
        "services/auth/bootstrap.py",
        "            endings.running(),\n",
        "",
        ("tests/contract/auth/test_process.py::test_an_end_that_a_killed_process_has_left_is_finished_by_another",),
    ),
    Mutant(
        "a link opens again when its maker is given the right anew",
        "services/auth/links.py",
        "and link.writes_since_ms in {None, maker.writes_since_ms}",
        "",
        ("tests/services/auth/test_links.py::test_a_link_opens_only_as_long_as_its_maker_may_write",),
    ),
    Mutant(
        "an object is sealed with whatever headers",
        "services/metadata/adapters/s3.py",
        "        return Barrier.HEADERS\n",
        "        return None\n",
        ("tests/contract/metadata/test_object_storage.py::test_an_object_with_headers_that_are_not_ours_is_told",),
    ),
    Mutant(
        "an object with headers that are no text stays for ever",
        "services/metadata/adapters/s3.py",
        "if _is_undecodable(error.__cause__) else None",
        "if False else None",
        (
            "tests/contract/metadata/test_object_storage.py::test_an_object_with_headers_that_are_not_ours_is_told",
            "tests/e2e/test_hostile_headers.py::test_everybody_reads_what_was_put_with_hostile_headers",
        ),
    ),
    Mutant(
        "right bytes are removed by their etag alone",
        "services/metadata/sealing.py",
        "        if stored.barrier in _SAME_ETAG:\n",
        "        if False:\n",
        (
            "tests/services/metadata/test_sealing.py::"
            "test_right_bytes_that_were_sealed_meanwhile_are_not_removed_in_place_of_what_had_their_etag",
        ),
    ),
    Mutant(
        "a commit that has waited does not ask again",
        "services/metadata/journal/commit.py",
        "<= ASK_SECONDS * 1000]",
        "<= 1 << 60]",
        (
            "tests/services/metadata/journal/test_rights.py::"
            "test_a_commit_that_waits_for_long_is_made_only_if_its_caller_still_may",
        ),
    ),
    Mutant(
        "a call that has waited is answered by a right of before",
        "services/metadata/servicer.py",
        "        if clock() - asked_at > self._ask_seconds:\n",
        "        if False:\n",
        ("tests/services/metadata/test_servicer.py::test_who_is_removed_is_not_answered_after_a_wait",),
    ),
    Mutant(
        "a seal under way asks nobody",
        "services/metadata/servicer.py",
        "                with ending.interrupting():\n                    verdicts",
        "                if ending:\n                    verdicts",
        ("tests/services/metadata/test_servicer.py::test_a_seal_under_way_ends_with_the_right_to_write",),
    ),
    Mutant(
        "uploads in parts are let through",
        "infra/data.yaml",
        's3:ObjectCreationOperation: "false"',
        's3:ObjectCreationOperation: "neither"',
        ("tests/infra/test_enforcement.py::test_nothing_is_uploaded_in_parts_whatever_header_comes_with_it",),
    ),
    Mutant(
        "an end that is no date is taken",
        "runtime/claims.py",
        "    if type(expires_at) is not int or not 0 <= expires_at <= MAX_EXPIRY_SECONDS:\n",
        "    if not isinstance(expires_at, int | float):\n",
        ("tests/runtime/test_claims.py::test_an_end_that_is_no_moment_is_refused",),
    ),
    Mutant(
        "the sender of a body that came slowly is who the sender was",
        "gateway/dav/app.py",
        "                person = await self._person(request, names)  # again: the body may have come slowly\n",
        "",
        (
            "tests/e2e/test_rights_after_slow_requests.py::test_who_is_removed_while_a_body_comes_is_refused_when_it_has_come",
        ),
    ),
    Mutant(
        "records of WebDAV are written without a right",
        "gateway/dav/session.py",
        "            await self._check_right(space, writes=True)\n",
        "",
        ("tests/gateway/dav/test_rights.py::test_whoever_lost_the_right_sets_no_property",),
    ),
    Mutant(
        "a long request reads records without asking again",
        "gateway/dav/session.py",
        "        if self._monotonic() - asked_at > (WRITING_SECONDS if writes else ASK_SECONDS):\n",
        "        if writes and self._monotonic() - asked_at > WRITING_SECONDS:\n",
        ("tests/gateway/dav/test_rights.py::test_a_request_that_lasts_asks_again_before_it_reads",),
    ),
    Mutant(
        "mail goes to who was a member when the first mail about a change went out",
        "services/notify/mailer.py",
        "        return space in (await self._directory.check([space], user=user, devices=[])).spaces\n",
        "        return True\n",
        ("tests/services/notify/test_mailer.py::test_whoever_is_removed_while_others_are_told_gets_no_mail",),
    ),
    Mutant(
        "a call begins by a token that has expired while it waited",
        "runtime/rpc/beginning.py",
        "    if caller is not None and caller.expires_at <= time.time():\n",
        "    if False:\n",
        (
            "tests/runtime/rpc/test_requests.py::test_a_request_that_comes_when_its_token_has_expired_is_refused",
            "tests/runtime/rpc/test_beginning.py::test_a_call_whose_token_expires_while_it_waits_for_its_turn_is_refused",
        ),
    ),
    Mutant(
        "visitors of one link are many",
        "gateway/identity/shares.py",
        "Share(read_claims(token).subject, own.network(request))",
        "Share(token, own.network(request))",
        (
            "tests/gateway/identity/test_shares.py::test_all_visitors_of_a_link_are_one_caller_and_all_tokens_of_a_person",
        ),
    ),
    Mutant(
        "a network is what the sender says",
        "gateway/identity/address.py",
        "            trusted_proxies=self._proxies,\n",
        "            trusted_proxies=1,\n",
        ("tests/gateway/identity/test_shares.py::test_nobody_chooses_a_network_by_a_header",),
    ),
    Mutant(
        "the network under which attempts are counted is what the sender says",
        "runtime/network.py",
        "    while at > 0 and _within(_address(way[at]), trusted_networks):\n",
        "    while at > 0:\n",
        (
            "tests/services/auth/test_peers.py::test_only_what_trusted_proxies_added_counts",
            "tests/services/auth/test_peers.py::test_nothing_that_a_client_sends_chooses_the_address_that_is_counted",
        ),
    ),
    Mutant(
        "one sender has all places in which mail is sent",
        "services/notify/mailer.py",
        "self._places.lent(1, Share.alone(event.sender), patience=None)",
        "self._places.lent(1, Share.alone(secrets.token_hex(8)), patience=None)",
        ("tests/services/notify/test_postman.py::test_the_mail_of_another_sender_goes_out_after_few_of_a_flood",),
    ),
    Mutant(
        "one sender has all announcements in hand",
        "services/notify/postman.py",
        "if not self._in_hand.try_take(1, share):",
        "if not self._in_hand.try_take(0, share):",
        (
            "tests/services/notify/test_postman.py::test_a_flood_of_one_sender_is_put_back_behind_the_others_and_comes_no_nearer_to_the_dead_letters",
        ),
    ),
    Mutant(
        "what is put back has all its attempts again",
        "services/notify/postman.py",
        "        if message.receives > MAX_ATTEMPTS:\n",
        "        if False:\n",
        (
            "tests/services/notify/test_postman.py::test_what_always_fails_comes_to_the_dead_letters_although_it_is_put_back_between_its_attempts",
        ),
    ),
    Mutant(
        "whoever says so is the gateway, and chooses the network that is counted",
        "runtime/network_tokens.py",
        "if not hmac.compare_digest(signature.encode(), _signature(self._secret, told).encode()):",
        "if not signature:",
        ("tests/services/auth/test_peers.py::test_nobody_else_chooses_the_network_that_is_counted",),
    ),
    Mutant(
        "the gateway is known by the address from which it calls",
        "stack/services.py",
        '    return {\n        PROVE_ADDRESSES: "false"',
        '    own["TRUSTED_NETWORKS"] = f"{HOST}/32"\n    return {\n        PROVE_ADDRESSES: "false"',
        ("tests/stack/test_up.py::test_nobody_is_believed_by_the_address_of_the_call_alone",),
    ),
    Mutant(
        "the policy of sign-up is not asked",
        "services/auth/accounts.py",
        "        self._admission.check(email)\n",
        "",
        (
            "tests/services/auth/test_admission.py"
            "::test_a_refused_sign_up_hashes_nothing_counts_nothing_and_tells_nothing_of_accounts",
        ),
    ),
    Mutant(
        "a proof works for any account",
        "services/auth/proofs.py",
        "proof is None or proof.user != user or",
        "proof is None or",
        ("tests/services/auth/test_proofs.py::test_the_token_of_another_account_proves_nothing",),
    ),
    Mutant(
        "the password of a claim begins the count of guesses anew",
        "services/auth/accounts.py",
        "            login = await self._claimed(email, password, share)\n",
        "            login = await self._claimed(email, password, share)\n"
        "            if login is not None:\n"
        "                await self._attempts.succeeded(subject=email, peer=peer)\n",
        ("tests/services/auth/test_proofs.py::test_guessing_is_not_forgotten_by_the_password_of_a_claim",),
    ),
    Mutant(
        "a reset works after the password was changed",
        "services/auth/resets.py",
        "(login.account.user, login.password_changes) != (reset.user, reset.password_changes)",
        "login.account.user != reset.user",
        ("tests/services/auth/test_resets.py::test_a_change_of_the_password_and_a_reset_end_all_other_resets",),
    ),
    Mutant(
        "a sign-in with the former password ends after the change",
        "services/auth/accounts.py",
        "proven = login if login.account.proven else None",
        "proven = None",
        (
            "tests/services/auth/test_resets.py::"
            "test_a_sign_in_with_the_former_password_that_ends_after_the_reset_adds_no_device",
        ),
    ),
    Mutant(
        "nothing is stored for an address without an account",
        "services/auth/resets.py",
        "        await self._store.add_reset(",
        "        if login is not None:\n            await self._store.add_reset(",
        (
            "tests/services/auth/test_resets.py::"
            "test_the_answer_and_the_work_are_the_same_whether_the_address_has_an_account",
        ),
    ),
    Mutant(
        "a weak password is chosen by a reset or a change",
        "services/auth/password_changes.py",
        "        await self._strength.check(new, email=email, share=share)\n",
        "",
        ("tests/services/auth/test_resets.py::test_a_refused_password_does_not_spend_the_token",),
    ),
    Mutant(
        "the record of a change goes before the list of devices is complete",
        "services/auth/password_changes.py",
        "ended.complete and self._clock() >= last_at_ms",
        "ended.complete",
        (
            "tests/services/auth/test_password_changes.py::"
            "test_a_device_that_the_list_lacks_at_first_ends_before_the_record_goes",
        ),
    ),
    Mutant(
        "an account that is not proven makes links",
        "services/auth/servicer.py",
        "        await self._accounts.maker(caller.user)\n        link, token",
        "        link, token",
        ("tests/services/auth/test_proofs.py::test_who_is_not_proven_makes_nothing_that_others_notice",),
    ),
    Mutant(
        "a request for mail that comes twice is mailed twice",
        "services/notify/mailer.py",
        "            if claim is Claim.DONE:\n                return\n            await self._send_claimed(",
        "            await self._send_claimed(",
        ("tests/services/notify/test_mailer.py::test_a_proof_is_mailed_once_however_often_its_request_comes",),
    ),
    Mutant(
        "an invitation works for any address",
        "services/auth/invitations.py",
        "if invitation.email not in {None, email}:",
        "if False:",
        ("tests/services/auth/test_invitations.py::test_an_invitation_is_for_its_address_works_once_and_for_a_week",),
    ),
    Mutant(
        "an expired invitation to a space becomes a grant",
        "services/auth/space_invitations.py",
        "if one.expires_at_ms > now]",
        "if one.expires_at_ms]",
        (
            "tests/services/auth/test_space_invitations.py::test_an_expired_invitation_is_worth_nothing_at_its_last_moment",
        ),
    ),
    Mutant(
        "an invitation counts although its inviter owns the space no more",
        "services/auth/space_invitations.py",
        "(one for one in present if (one.space, one.by) in owners)",
        "(one for one in present)",
        ("tests/services/auth/test_space_invitations.py::test_an_inviter_who_owns_the_space_no_more_invites_nobody",),
    ),
    Mutant(
        "a guest makes links and keys",
        "services/auth/accounts.py",
        "        if account.guest:\n            raise GuestRefused\n",
        "",
        ("tests/services/auth/test_space_invitations.py::test_a_guest_makes_no_spaces_links_or_keys",),
    ),
    Mutant(
        "an invitation to a space makes the administrator",
        "services/auth/accounts.py",
        "if invitation.space is None and not await",
        "if not await",
        ("tests/services/auth/test_space_invitations.py::test_an_invitation_to_a_space_makes_no_administrator",),
    ),
    Mutant(
        "whoever is removed comes back by an invitation that waited",
        "services/auth/grants.py",
        "by=caller, done=done, ends=invitation)",
        "by=caller, done=done)",
        (
            "tests/services/auth/test_space_invitations.py::test_an_invitation_that_waits_gives_back_nothing_that_an_owner_takes",
        ),
    ),
    Mutant(
        "services believe the proxies in front of the gateway",
        "stack/services.py",
        '    if name == "gateway" and wiring.proxies:\n',
        "    if wiring.proxies:\n",
        ("tests/stack/test_services.py::test_the_gateway_alone_believes_the_proxies_in_front_of_it",),
    ),
    Mutant(
        "a body may come as slowly as it likes",
        "gateway/http/pace.py",
        "            async with incoming.waiting(0):\n",
        "            if True:\n",
        (
            "tests/gateway/http/test_connections.py::test_a_body_that_never_comes_is_given_up",
            "tests/gateway/http/test_connections.py::test_a_body_that_comes_a_byte_now_and_then_is_given_up",
        ),
    ),
    Mutant(
        "a byte now and then keeps a body alive",
        "gateway/http/pace.py",
        "        self._seconds = min(self._seconds + size / self._rate, self._grace)",
        "        self._seconds = self._grace",
        ("tests/gateway/http/test_connections.py::test_a_body_that_comes_a_byte_now_and_then_is_given_up",),
    ),
    Mutant(
        "an answer may be taken as slowly as its reader likes",
        "gateway/http/pace.py",
        "                async with outgoing.waiting(size):\n",
        "                if True:\n",
        (
            "tests/gateway/http/test_connections.py::"
            "test_whoever_takes_a_content_too_slowly_is_cut_off_and_gives_its_memory_back",
        ),
    ),
    Mutant(
        "who is too slow keeps what the socket has not taken",
        "gateway/http/pace.py",
        "                scope.get(ABORT, lambda: None)()\n",
        "",
        (
            "tests/gateway/http/test_connections.py::"
            "test_whoever_takes_a_content_too_slowly_is_cut_off_and_gives_its_memory_back",
        ),
    ),
    Mutant(
        "a head may take as long as it likes",
        "runtime/http/connection.py",
        "        self._limit = self.loop.call_later(self._reception.header_section_seconds, self.transport.close)\n",
        "",
        ("tests/gateway/http/test_connections.py::test_a_head_that_never_ends_is_given_up",),
    ),
    Mutant(
        "a turn of reading ends after bytes alone",
        "runtime/http/reading.py",
        "            cost += len(some) + PARSER_CALL_COST_BYTES * self._parsing.parse(some)\n",
        "            cost += len(some) + 0 * self._parsing.parse(some)\n",
        ("tests/runtime/http/test_reading.py::test_a_turn_has_so_many_calls_of_the_parser",),
    ),
    Mutant(
        "what is read takes no turns",
        "runtime/http/reading.py",
        "            self._turn = granted(self._parsing.share.network, self._parsing.person)\n",
        "            self._turn = asyncio.get_running_loop().create_future()\n"
        "            self._turn.set_result(None)\n",
        (
            "tests/runtime/http/test_reading.py::test_what_many_connections_of_one_network_send_is_read_as_that_of_one",
            "tests/gateway/http/test_turns.py::test_parts_of_bodies_are_read_in_turns_too",
        ),
    ),
    Mutant(
        "input that nobody takes is read ahead without a bound",
        "runtime/http/reading.py",
        "        return self._unread.room[: self._taken or SMALL_PIECE_BYTES]\n",
        "        return self._unread.room\n",
        ("tests/runtime/http/test_reading.py::test_pieces_that_are_not_taken_are_bounded_in_total_and_of_one_network",),
    ),
    Mutant(
        "an inline manifest may have as fine blocks as it likes",
        "services/metadata/tree/decide.py",
        " or manifest.is_too_fine:",
        ":",
        ("tests/services/metadata/tree/test_decide.py::test_the_verdict_on_each_content",),
    ),
    Mutant(
        "a device fetches each byte of a content by a request",
        "clients/python/syncline/transfer/download.py",
        "    if manifest.is_too_fine:",
        "    if False:",
        (
            "tests/clients/transfer/test_download.py::"
            "test_a_content_of_finer_blocks_than_a_service_accepts_is_not_fetched",
        ),
    ),
    Mutant(
        "requests to AWS are granted in the order of arrival",
        "aws/session.py",
        "lent(1, current_share(), patience=None)",
        "lent(0, current_share(), patience=None)",
        ("tests/aws/test_session.py::test_requests_of_one_caller_leave_places_for_others",),
    ),
    Mutant(
        "a refusal that cannot be delayed is sent at once",
        "gateway/http/refusals.py",
        "                close_unanswered(seconds)\n                return\n",
        "                pass\n",
        (
            "tests/gateway/http/test_refusals.py::"
            "test_one_network_has_half_of_the_delayed_answers_and_further_ones_are_not_sent",
        ),
    ),
    Mutant(
        "a connection that is closed unanswered gives its place to the next one of its network at once",
        "runtime/http/connection.py",
        "self._reception.pool.leave(self.share, after_seconds=kept)",
        "self._reception.pool.leave(self.share, after_seconds=0 * kept)",
        ("tests/runtime/http/test_reading.py::test_a_connection_that_is_closed_unanswered_counts_for_a_while",),
    ),
    Mutant(
        "whoever is refused is closed at once",
        "runtime/http/reading.py",
        "        if not self._parsing.is_cut_short or not self._unread.lingering.try_take(1, share):\n",
        "        if True:\n",
        ("tests/runtime/http/test_reading.py::test_who_is_refused_while_sending_reads_why",),
    ),
    Mutant(
        "the body of a request that asks for another protocol is taken for the next request",
        "runtime/http/connection.py",
        "        if has_body and self.parser.should_upgrade():\n",
        "        if False:\n",
        ("tests/gateway/http/test_connections.py::test_what_is_no_http_is_a_problem_too",),
    ),
    Mutant(
        "a chunk says beside its size as much as it likes",
        "runtime/http/connection.py",
        " or (self._is_chunked and self._calls == calls)\n",
        "\n",
        ("tests/gateway/http/test_connections.py::test_what_a_chunk_is_said_to_be_beside_its_size_is_bounded",),
    ),
    Mutant(
        "the embedded AWS has any number of connections",
        "stack/emulator/__main__.py",
        "AwsReception(process.most_connections(MAX_CONNECTIONS))",
        "AwsReception(1 << 30)",
        ("tests/stack/emulator/test_reception.py::test_connections_of_one_network_leave_some_to_others",),
    ),
    Mutant(
        "of a connection that was reset a timer is kept",
        "runtime/http/connection.py",
        "        self._unset_keepalive_if_required()\n        self.pipeline.clear()\n        self.scope",
        "        self.pipeline.clear()\n        self.scope",
        ("tests/gateway/http/test_connections.py::test_nothing_is_kept_of_a_connection_that_was_reset",),
    ),
    Mutant(
        "an upload by WebDAV has its memory from its first byte on",
        "gateway/dav/app.py",
        "        first = min(size, FIRST_MEMORY_BYTES)\n",
        "        first = size\n",
        ("tests/e2e/test_dav_slow.py::test_uploads_that_hardly_move_hold_no_workers_and_little_memory",),
    ),
    Mutant(
        "an upload by WebDAV never asks for more memory than at first",
        "gateway/dav/bodies.py",
        "if self._more is not None and len(cut.held) + len(self._rest) > self._first:",
        "if False and self._more is not None:",
        ("tests/gateway/dav/test_upload.py::test_a_body_asks_for_more_memory_once_it_is_more_than_a_little",),
    ),
    Mutant(
        "uploads by WebDAV take no memory of a pool",
        "gateway/dav/app.py",
        "                    await taken.enter_async_context(self._memory.lent(size, share))\n",
        "                    pass\n",
        ("tests/e2e/test_dav.py::test_uploads_take_bounded_memory_and_no_disk",),
    ),
    Mutant(
        "a turn of WebDAV is held while a listing is taken",
        "gateway/dav/app.py",
        "                if isinstance(part, bytes):\n                    await answer.send(part)\n",
        "                if isinstance(part, bytes):\n"
        "                    async with self._turns.lent(1, share, patience=None):\n"
        "                        await answer.send(part)\n",
        ("tests/e2e/test_dav_slow.py::test_listings_that_nobody_takes_hold_no_workers",),
    ),
    Mutant(
        "turns of WebDAV are not shared out",
        "gateway/dav/app.py",
        "        await self._turns.take(1, share, patience=None if answer.under_way else PATIENCE_SECONDS)\n",
        "        self._turns._grant(1, share)\n",
        ("tests/gateway/dav/test_workers.py::test_one_person_has_half_of_the_workers_and_others_go_on",),
    ),
    Mutant(
        "a worker of WebDAV gives its place to wait back before it has a turn again",
        "gateway/dav/app.py",
        "                await self._turns.take(1, self._share, patience=None)\n                self.end()\n",
        "                self.end()\n                await self._turns.take(1, self._share, patience=None)\n",
        ("tests/gateway/dav/test_workers.py::test_workers_whose_callers_all_wait_come_to_their_end",),
    ),
    Mutant(
        "a call of the gateway's own begins a request",
        "gateway/services/calls.py",
        "    if patience is not None and token:\n        patience.begun = True\n",
        "    if patience is not None:\n        patience.begun = True\n",
        ("tests/gateway/http/test_patience.py::test_a_call_of_the_gateway_s_own_begins_nothing",),
    ),
    Mutant(
        "what may have been counted is counted again",
        "gateway/services/calls.py",
        "undone = isinstance(error, RateExceeded) or not isinstance(request, _MAKES_ANEW)",
        "undone = True",
        ("tests/gateway/http/test_patience.py::test_what_may_be_done_already_is_done_once",),
    ),
    Mutant(
        "archives under way are not bounded",
        "gateway/content/archive.py",
        "        async with self._under_way.lent(1, share):\n",
        "        if True:\n",
        ("tests/gateway/content/test_archive.py::test_archives_of_one_link_that_nobody_takes_leave_some_for_others",),
    ),
    # ---- passwords ----
    Mutant(
        "attempts at one address from one network are not counted",
        "services/auth/attempts.py",
        "        await self._count(subject, peer, self._limits.per_peer)\n",
        "",
        ("tests/services/auth/test_accounts.py::test_beyond_the_limit_no_password_is_looked_at",),
    ),
    Mutant(
        "one password is tried at every address",
        "services/auth/attempts.py",
        "        await self._count(_ALL, peer, self._limits.per_network)\n",
        "",
        ("tests/services/auth/test_accounts.py::test_one_network_does_not_try_a_password_at_every_address",),
    ),
    Mutant(
        "one address is tried from everywhere",
        "services/auth/attempts.py",
        "        await self._count(subject, None, self._limits.per_address)\n",
        "",
        (
            "tests/services/auth/test_links.py::test_guessing_from_everywhere_is_slowed_down_too",
            (
                "tests/services/auth/test_servicer.py::"
                "test_who_guesses_elsewhere_does_not_lock_the_owner_out_until_the_address_has_had_enough"
            ),
        ),
    ),
    Mutant(
        "accounts are made without end",
        "services/auth/accounts.py",
        "        await self._attempts.admit_account(peer=peer)\n",
        "",
        ("tests/services/auth/test_accounts.py::test_one_network_does_not_make_accounts_without_end",),
    ),
    Mutant(
        "who knows one password begins the count of the network anew",
        "services/auth/attempts.py",
        "            self._store.take_back_attempt(subject=_ALL, peer=peer),\n",
        "            self._store.forget_attempts(subject=_ALL, peer=peer),\n",
        ("tests/services/auth/test_accounts.py::test_those_who_know_their_password_do_not_use_their_network_up",),
    ),
    Mutant(
        "passwords wait to be hashed without a bound",
        "services/auth/passwords.py",
        "        if not self._places.try_take(1, share):\n",
        "        if not self._places.try_take(1, share) and self._places._grant(1, share):\n",
        (
            "tests/services/auth/test_passwords.py::test_more_than_can_be_served_soon_are_told_at_once_to_come_back",
            "tests/services/auth/test_passwords.py::test_one_account_leaves_half_of_the_places",
        ),
    ),
    Mutant(
        "passwords are hashed in the order of arrival",
        "services/auth/passwords.py",
        "        turn = self._waiting.add(share.network, share.caller)\n",
        '        turn = self._waiting.add("", "")\n',
        (
            (
                "tests/services/auth/test_passwords.py::"
                "test_a_network_with_many_requests_gets_a_turn_and_then_the_next_network_does"
            ),
        ),
    ),
    Mutant(
        "a thread counts as idle when its caller has gone",
        "services/auth/passwords.py",
        "        return await asyncio.shield(hashing)\n",
        "        return await hashing\n",
        (
            "tests/services/auth/test_passwords.py::test_a_thread_is_taken_until_its_work_ends_although_its_caller_has_gone",
        ),
    ),
    Mutant(
        "hashing has the same priority as everything else",
        "services/auth/passwords.py",
        ", initializer=lower_priority)",
        ")",
        ("tests/services/auth/test_passwords.py::test_hashing_has_a_lower_priority_than_everything_else",),
    ),
    Mutant(
        "passwords of links are not counted",
        "services/auth/links.py",
        "            await self._attempts.admit(subject=subject, peer=peer)\n",
        "            pass\n",
        ("tests/services/auth/test_links.py::test_guessing_is_slowed_down_for_each_link_and_peer",),
    ),
    # ---- nodes ----
    Mutant(
        "a space has any number of nodes",
        "services/metadata/tree/decide.py",
        "    if at.free_nodes <= 0:\n",
        "    if False:\n",
        (
            "tests/services/metadata/tree/test_node_count.py::"
            "test_a_space_has_so_many_nodes_and_not_one_more_whichever_process_makes_them",
        ),
    ),
    Mutant(
        "what a request makes does not count for the rest of it",
        "services/metadata/journal/draft.py",
        "            self.nodes += 1\n",
        "",
        (
            "tests/services/metadata/tree/test_node_count.py::"
            "test_a_space_has_so_many_nodes_and_not_one_more_whichever_process_makes_them",
        ),
    ),
    Mutant(
        "a number of nodes that an older process left behind is taken",
        "services/metadata/adapters/dynamodb_tree.py",
        'if item.get("nodes_seq") == item["projected_seq"] else None',
        'if "nodes_seq" in item else None',
        (
            "tests/services/metadata/tree/test_node_count.py::"
            "test_a_number_that_an_older_process_left_behind_is_not_taken",
        ),
    ),
    # ---- turns ----
    Mutant(
        "bulk work takes no turns",
        "runtime/turns.py",
        "        if len(items) > size:\n",
        "        if False:\n",
        (
            "tests/services/metadata/journal/test_turns.py::test_a_large_commit_leaves_the_loop_to_others_many_times",
            "tests/services/metadata/journal/test_turns.py::test_changes_and_searches_are_told_in_slices",
        ),
    ),
    Mutant(
        "turns go to whoever came first",
        "runtime/fair_queue.py",
        "                self._waiting[key] = people\n",
        "                self._waiting[key] = people\n                self._waiting.move_to_end(key, last=False)\n",
        ("tests/runtime/test_turns.py::test_a_caller_with_many_requests_gets_no_more_turns_than_one_with_few",),
    ),
    Mutant(
        "a network whose requests take long does not rest",
        "runtime/rests.py",
        "        if not is_over and not self._is_alone(network, now):\n",
        "        if False:\n",
        ("tests/runtime/test_turns.py::test_a_network_whose_requests_take_long_rests_while_others_are_at_work",),
    ),
    Mutant(
        "all turns are granted at once",
        "runtime/turns.py",
        "            self._rest = self._iterations\n",
        "",
        ("tests/runtime/test_turns.py::test_what_is_not_bulk_runs_between_two_slices",),
    ),
    Mutant(
        "calls begin as they come",
        "runtime/rpc/server.py",
        "            Beginning(beginnings),\n",
        "",
        (
            "tests/runtime/rpc/test_beginning.py::test_the_call_of_one_person_does_not_wait_for_many_calls_of_another",
            "tests/runtime/rpc/test_beginning.py::test_many_accounts_of_one_network_have_no_more_turns_than_one_of_another",
        ),
    ),
    Mutant(
        "bulk work has a turn in each round of the loop",
        "runtime/turns.py",
        "_of_loop(_bulk, REST_ITERATIONS)",
        "_of_loop(_bulk, 1)",
        ("tests/runtime/test_turns.py::test_a_call_of_some_rounds_meets_one_slice_whoever_does_bulk_work",),
    ),
    Mutant(
        "a projection has as many writes under way as it likes",
        "services/metadata/adapters/dynamodb_tree.py",
        "            place=partial(self._writes.lent, 1, Share.alone(space), patience=None),\n",
        "",
        ("tests/contract/metadata/test_counts.py::test_a_projection_has_half_of_the_writes_that_may_be_under_way",),
    ),
    Mutant(
        "a search looks at all names in one go",
        "services/metadata/tree/search.py",
        "    while some := list(islice(waiting, SLICE_NAMES)):\n",
        "    while some := list(waiting):\n",
        ("tests/services/metadata/journal/test_turns.py::test_a_search_over_many_names_is_done_in_slices",),
    ),
    Mutant(
        "an index of names is brought up to date in one go",
        "services/metadata/tree/search.py",
        "            if waiting >= NODES_PER_TURN:\n",
        "            if False:\n",
        ("tests/services/metadata/journal/test_turns.py::test_the_first_search_of_a_large_space_is_done_in_slices",),
    ),
    Mutant(
        "a round of projection takes all that there is",
        "services/metadata/journal/project.py",
        "        if changes >= MAX_PASS_CHANGES:\n",
        "        if False:\n",
        ("tests/services/metadata/journal/test_turns.py::test_a_round_of_projection_ends_after_so_many_changes",),
    ),
    Mutant(
        "requests of a space are decided in the order in which they came",
        "services/metadata/journal/commit.py",
        "        self._of.setdefault(pending.request.user, deque()).append(pending)\n",
        '        self._of.setdefault("all", deque()).append(pending)\n',
        (
            "tests/services/metadata/journal/test_turns.py::test_the_requests_of_one_person_do_not_hold_up_those_of_another",
        ),
    ),
    # ---- rights that end ----
    Mutant(
        "nobody asks again whether a right stands",
        "runtime/interruption.py",
        "                    await ask()\n            except Exception as error:",
        "                    pass\n            except Exception as error:",
        ("tests/runtime/test_interruption.py::test_a_stream_ends_with_the_reason",),
    ),
    Mutant(
        "a stream goes on for as long as auth does not answer",
        "runtime/interruption.py",
        "                if not unanswered or clock() + seconds >= answered_at + patience:\n",
        "                if not unanswered:\n",
        ("tests/runtime/test_interruption.py::test_an_outage_is_outlived_and_a_long_one_is_not",),
    ),
    Mutant(
        "it is asked too seldom whether a right stands",
        "runtime/interruption.py",
        "ASK_SECONDS: Final = 4.0",
        "ASK_SECONDS: Final = 9.0",
        ("tests/runtime/test_interruption.py::test_it_is_asked_often_enough",),
    ),
    Mutant(
        "a right is remembered for too long",
        "runtime/interruption.py",
        "REVOCATION_SECONDS - ASK_SECONDS - 1.0",
        "REVOCATION_SECONDS - 1.0",
        ("tests/runtime/test_interruption.py::test_what_is_remembered_is_forgotten_early_enough",),
    ),
    Mutant(
        "an open version check asks what it remembers",
        "services/metadata/servicer.py",
        "ask = partial(self._access.require, space, current_user(), role, now=True)",
        "ask = partial(self._access.require, space, current_user(), role)",
        ("tests/services/metadata/test_servicer.py::test_who_is_removed_is_answered_no_more_in_an_open_check",),
    ),
    Mutant(
        "an open version check asks once",
        "services/metadata/servicer.py",
        "async for message in ending.until(request_iterator):",
        "async for message in request_iterator:",
        ("tests/services/metadata/test_servicer.py::test_who_is_removed_is_answered_no_more_in_an_open_check",),
    ),
    Mutant(
        "changes that are being told ask once",
        "services/metadata/servicer.py",
        "async for nodes, position in ending.until(changes):",
        "async for nodes, position in changes:",
        ("tests/services/metadata/test_servicer.py::test_who_is_removed_is_told_no_more_of_changes_under_way",),
    ),
    Mutant(
        "a commit is decided by a right that is remembered",
        "services/metadata/servicer.py",
        "has = await self._access.require(space, caller, Role.EDITOR, now=True)",
        "has = await self._access.require(space, caller, Role.EDITOR)",
        ("tests/services/metadata/test_servicer.py::test_a_commit_asks_once_for_the_right_of_its_moment",),
    ),
    Mutant(
        "a watch asks once",
        "services/notify/watch.py",
        "                    await self._still_a_member(spaces, user=user, device=device)\n",
        "",
        (
            (
                "tests/services/notify/test_servicer.py::"
                "test_a_watch_of_quiet_spaces_ends_with_the_right_before_its_next_heartbeat"
            ),
        ),
    ),
    Mutant(
        "watches of one person do not share their questions",
        "services/notify/access.py",
        "        if after is not None:\n            await asyncio.wait([after])\n",
        "",
        ("tests/services/notify/test_servicer.py::test_watches_of_one_person_share_their_questions",),
    ),
    Mutant(
        "one person watches as much as there is",
        "services/notify/watch.py",
        "if self._watched[user] + spaces > self._most:",
        "if False:",
        ("tests/services/notify/test_servicer.py::test_one_person_watches_so_many_spaces_in_all",),
    ),
    Mutant(
        "the device of an expired key counts as signed in",
        "services/auth/devices.py",
        "DeviceState.EXPIRED if device.expires_at_ms <= now_ms else DeviceState.SIGNED_IN",
        "DeviceState.SIGNED_IN",
        ("tests/services/auth/test_keys.py::test_the_device_of_an_expired_key_can_do_nothing_more",),
    ),
    Mutant(
        "credentials outlive the key of the program that they were issued to",
        "services/auth/credentials.py",
        "until_ms=caller.expires_at_ms if ends else None",
        "until_ms=None",
        ("tests/services/auth/test_keys.py::test_credentials_of_a_key_end_with_it",),
    ),
    Mutant(
        "a stream outlives the access token by which it was opened",
        "runtime/rpc/interceptors.py",
        "self._until(expiry.until(responses))",
        "self._until(responses)",
        ("tests/runtime/rpc/test_server.py::test_a_stream_ends_with_the_token_that_opened_it",),
    ),
    Mutant(
        "events of a key end with its first access token",
        "gateway/api/events.py",
        "                watches.create_task(listen(latest))\n",
        "",
        ("tests/gateway/test_events.py::test_events_of_a_key_outlive_its_access_tokens",),
    ),
    Mutant(
        "a watch asks no more often than it beats",
        "services/notify/watch.py",
        "asyncio.timeout_at(min(beat_at, ask_at))",
        "asyncio.timeout_at(beat_at)",
        (
            "tests/services/notify/test_servicer.py::"
            "test_a_watch_of_quiet_spaces_ends_with_the_right_before_its_next_heartbeat",
        ),
    ),
    Mutant(
        "a doorbell rings for who has been removed",
        "services/notify/watch.py",
        "                    await self._access.require(doorbell.space, user=user, device=device)\n",
        "",
        ("tests/services/notify/test_servicer.py::test_a_removed_member_does_not_hear_the_next_change",),
    ),
    Mutant(
        "a download or an archive asks once",
        "gateway/content/download.py",
        "async with aclosing(self._rest), asked_again(self._check_right) as ending:",
        "async with aclosing(self._rest), asked_again(self._check_right, seconds=3600) as ending:",
        ("tests/e2e/test_revocation.py::test_what_lasts_ends_with_the_right",),
    ),
    Mutant(
        "a download that had to wait begins with a right of before",
        "gateway/content/download.py",
        "    if clock() > began + _WAITED_SECONDS:\n",
        "    if False:\n",
        ("tests/gateway/content/test_assemble.py::test_a_download_that_had_to_wait_asks_for_the_right_again",),
    ),
    Mutant(
        "an upload by WebDAV asks once",
        "gateway/dav/app.py",
        "asked_again(writes) as ending:",
        "asked_again(writes, seconds=3600) as ending:",
        ("tests/e2e/test_revocation.py::test_what_lasts_ends_with_the_right",),
    ),
    Mutant(
        "a lock outlives the right of who took it",
        "gateway/dav/locks.py",
        'stored = [lock for lock in stored if lock.get("device") in {None, *writers}]',
        "",
        (
            "tests/gateway/dav/test_session.py::test_a_lock_ends_with_the_right_to_write",
            "tests/gateway/dav/test_session.py::test_a_lock_ends_with_the_key_that_took_it",
        ),
    ),
    Mutant(
        "credentials of S3 last an hour",
        "lib/syncline/model/limits.py",
        "CREDENTIALS_SECONDS: Final = 15 * 60",
        "CREDENTIALS_SECONDS: Final = 60 * 60",
        ("tests/e2e/test_revocation.py::test_credentials_last_no_longer_than_they_must",),
    ),
    # ---- who may what ----
    Mutant(
        "the table of rpcs is not looked at",
        "runtime/rpc/interceptors.py",
        "            check_caller(identity.kind, callers, scopes=identity.scopes)\n",
        "",
        (
            "tests/runtime/rpc/test_server.py::test_a_public_link_gets_only_where_it_may_go",
            "tests/runtime/rpc/test_server.py::test_what_is_missing_in_the_table_is_open_to_nobody",
        ),
    ),
    Mutant(
        "what is missing in the table is open to all",
        "runtime/permissions.py",
        "    if callers is None:\n        raise",
        "    if callers is None:\n        return\n        raise",
        ("tests/runtime/rpc/test_server.py::test_what_is_missing_in_the_table_is_open_to_nobody",),
    ),
    Mutant(
        "the table of routes is not looked at",
        "gateway/identity/caller.py",
        "    check_route(request, found)\n",
        "",
        ("tests/gateway/content/test_kinds.py::test_whoever_opened_a_link_and_services_get_nowhere_else",),
    ),
    Mutant(
        "the table of routes is not looked at for visitors",
        "gateway/api/links.py",
        "    check_route(request, caller)\n",
        "",
        ("tests/gateway/content/test_kinds.py::test_only_who_opened_a_link_reads_by_its_routes",),
    ),
    Mutant(
        "the table of WebDAV is not looked at",
        "gateway/dav/callers.py",
        "            check_caller(claims.kind, callers, scopes=claims.scopes)\n",
        "",
        ("tests/gateway/content/test_kinds.py::test_whoever_opened_a_link_and_services_get_nowhere_else",),
    ),
    Mutant(
        "downloads of a link are not counted",
        "gateway/api/links.py",
        "begin=_begin(request, services, visitor, content.digest.hex(), size=content.size),",
        "begin=None,",
        ("tests/gateway/api/test_links.py::test_a_link_that_allows_two_downloads",),
    ),
    Mutant(
        "archives of a link are not counted",
        "gateway/api/links.py",
        "services, visitor.caller, measured=[top], name=name, begin=begin)",
        "services, visitor.caller, measured=[top], name=name)",
        ("tests/gateway/api/test_links.py::test_archives_of_a_link_are_counted",),
    ),
    Mutant(
        "whatever is left of a download of a link buys a whole copy",
        "gateway/content/allowance.py",
        "return taken if taken.left and taken.repeats <= self.repeats else None",
        "return taken if taken.left else None",
        (
            "tests/gateway/content/test_allowance.py::"
            "test_ranges_that_break_off_one_after_the_other_pay_for_two_copies_at_most",
        ),
    ),
    Mutant(
        "many at once exceed the downloads of a link",
        "gateway/content/allowance.py",
        "        except RecordMoved:\n            return False\n",
        "        except RecordMoved:\n            return True\n",
        ("tests/gateway/content/test_allowance.py::test_of_many_who_go_on_at_once_one_does",),
    ),
    Mutant(
        "whoever is suspended keeps the roles in spaces",
        "services/auth/adapters/dynamodb.py",
        "                if grant.space not in deleted and grant.user not in suspended\n",
        "                if grant.space not in deleted\n",
        ("tests/contract/auth/test_directory.py::test_whoever_is_suspended_has_no_rights_until_they_are_resumed",),
    ),
    Mutant(
        "whoever has signed in administers",
        "services/auth/administrators.py",
        "        if not account.admin:\n",
        "        if False:\n",
        ("tests/services/auth/test_administration.py::test_only_an_administrator_gets_anywhere",),
    ),
    Mutant(
        "the last administrator may go",
        "services/auth/adapters/dynamodb.py",
        '            condition="admins > :one",\n',
        "            condition=THERE,\n",
        ("tests/contract/auth/test_directory.py::test_an_administrator_is_left",),
    ),
    Mutant(
        "a key of a program changes members",
        "runtime/permissions.py",
        "        SetMember=SHARING,\n",
        "        SetMember=WRITING,\n",
        ("tests/runtime/test_permissions.py::test_only_a_key_that_shares_changes_members_and_links",),
    ),
    Mutant(
        "visitors get to the routes of people",
        "runtime/permissions.py",
        '_rows(READING, "content node_content version_content node_archive archive")',
        '_rows(READERS, "content node_content version_content node_archive archive")',
        (
            "tests/runtime/test_permissions.py::test_a_visitor_reads_what_a_link_opens_and_nothing_else",
            "tests/e2e/test_permissions.py::test_a_visitor_reads_nothing_where_downloads_are_not_counted",
        ),
    ),
    Mutant(
        "the token of a service works over REST",
        "runtime/permissions.py",
        '_rows(PEOPLE, "session sign_out")',
        '_rows(PEOPLE | {CallerKind.SERVICE}, "session sign_out")',
        (
            "tests/runtime/test_permissions.py::test_a_service_asks_who_may_what_tells_what_it_measured_and_nothing_else",
        ),
    ),
    Mutant(
        "a key of a program makes and ends devices and keys over REST",
        "runtime/permissions.py",
        '_rows(SESSIONS, "create_key revoke_device request_proof prove_address change_password")',
        '_rows(PEOPLE, "create_key revoke_device request_proof prove_address change_password")',
        ("tests/runtime/test_permissions.py::test_a_key_of_a_program_changes_no_account_and_no_space_as_a_whole",),
    ),
    Mutant(
        "a key opens the spaces that it does not name",
        "services/auth/key_limits.py",
        "    if not device.limits.opens(grant.space):\n        return None\n",
        "",
        ("tests/e2e/test_key_scopes.py::test_a_key_opens_the_spaces_that_it_names_alone",),
    ),
    Mutant(
        "a key that only reads gets credentials to write",
        "services/auth/key_limits.py",
        "    return min(role, Role.VIEWER)\n",
        "    return role\n",
        ("tests/services/auth/test_key_limits.py::test_the_role_of_a_program",),
    ),
    Mutant(
        "the token of a program passes for one of a session at the gateway",
        "runtime/claims.py",
        '    kind = CallerKind.PROGRAM if "knd" in claims else CallerKind.SESSION\n',
        "    kind = CallerKind.SESSION\n",
        ("tests/e2e/test_permissions.py::test_routes_take_those_whom_the_table_has",),
    ),
    Mutant(
        "the token of a program passes for one of a session at the services",
        "runtime/identity.py",
        "        return CallerKind.PROGRAM if self.scopes else CallerKind.SESSION",
        "        return CallerKind.SESSION",
        (
            "tests/runtime/rpc/test_server.py::test_each_identity_is_of_one_kind",
            "tests/e2e/test_permissions.py::test_rpcs_take_those_whom_the_table_has",
        ),
    ),
    Mutant(
        "the token of a visitor passes for one of a session at the gateway",
        "runtime/claims.py",
        '    if "spc" in claims or "nod" in claims:\n',
        "    if False:\n",
        ("tests/gateway/content/test_kinds.py::test_whoever_opened_a_link_and_services_get_nowhere_else",),
    ),
    # ---- objects ----
    Mutant(
        "objects are stored under a key of who stores them",
        "infra/data.yaml",
        '- Sid: NoKeysOfCustomers\n            Effect: Deny\n            Principal: "*"\n'
        "            Action: s3:PutObject\n",
        '- Sid: NoKeysOfCustomers\n            Effect: Deny\n            Principal: "*"\n'
        "            Action: s3:PutObjectAcl\n",
        ("tests/infra/test_enforcement.py::test_nothing_is_stored_that_others_cannot_read",),
    ),
    Mutant(
        "objects are stored in any storage class",
        "infra/data.yaml",
        '- Sid: OnlyStandardStorage\n            Effect: Deny\n            Principal: "*"\n'
        "            Action: s3:PutObject\n",
        '- Sid: OnlyStandardStorage\n            Effect: Deny\n            Principal: "*"\n'
        "            Action: s3:PutObjectAcl\n",
        ("tests/infra/test_enforcement.py::test_nothing_is_stored_that_others_cannot_read",),
    ),
    Mutant(
        "objects are encrypted by any key of AWS",
        "infra/data.yaml",
        '- Sid: OnlyTheBucketsEncryption\n            Effect: Deny\n            Principal: "*"\n'
        "            Action: s3:PutObject\n",
        '- Sid: OnlyTheBucketsEncryption\n            Effect: Deny\n            Principal: "*"\n'
        "            Action: s3:PutObjectAcl\n",
        ("tests/infra/test_enforcement.py::test_nothing_is_stored_that_others_cannot_read",),
    ),
    Mutant(
        "keys of objects may have any length, anywhere",
        "infra/data.yaml",
        '- Sid: OnlyKeysOfDigests\n            Effect: Deny\n            Principal: "*"\n'
        "            Action: s3:PutObject\n",
        '- Sid: OnlyKeysOfDigests\n            Effect: Deny\n            Principal: "*"\n'
        "            Action: s3:PutObjectAcl\n",
        ("tests/infra/test_enforcement.py::test_only_keys_that_can_be_sealed_can_be_put",),
    ),
    Mutant(
        "objects are written over",
        "infra/data.yaml",
        '- Sid: CreateOnly\n            Effect: Deny\n            Principal: "*"\n            Action: s3:PutObject\n',
        '- Sid: CreateOnly\n            Effect: Deny\n            Principal: "*"\n'
        "            Action: s3:PutObjectAcl\n",
        ("tests/infra/test_enforcement.py::test_an_object_is_never_overwritten",),
    ),
    Mutant(
        "a pattern of a policy matches a key with a newline after it",
        "stack/emulator/enforcement.py",
        '        return re.compile(rf"\\A(?:{expression})\\Z", ',
        '        return re.compile(rf"\\A(?:{expression})$", ',
        ("tests/infra/test_enforcement.py::test_only_keys_that_can_be_sealed_can_be_put",),
    ),
    Mutant(
        "slashes at the end of a key are left out when a policy is checked",
        "stack/emulator/enforcement.py",
        '        if service == "s3" and key:\n',
        "        if False:\n",
        ("tests/infra/test_enforcement.py::test_only_keys_that_can_be_sealed_can_be_put",),
    ),
    Mutant(
        "keys of objects may have a letter that is no digit",
        "infra/data.yaml",
        '              - !Sub "${ContentBucket.Arn}/spaces/*/objects/*g*"\n',
        "",
        ("tests/infra/test_enforcement.py::test_only_keys_that_can_be_sealed_can_be_put",),
    ),
    Mutant(
        "wrong bytes stay in the way of the right ones",
        "services/metadata/sealing.py",
        "        elif await self._removed(space, digest, stored):\n",
        "        elif False:\n",
        ("tests/services/metadata/test_sealing.py::test_wrong_bytes_are_removed_so_that_the_right_ones_can_be_put",),
    ),
    # ---- devices ----
    Mutant(
        "a pattern tries each star again",
        "clients/python/syncline/sync/scan/patterns.py",
        'found = "".join(f"(?>{_ANY}*?{piece})"',
        'found = "".join(f"(?:{_ANY}*?{piece})"',
        ("tests/clients/sync/test_patterns.py::test_no_pattern_hangs",),
    ),
    Mutant(
        "a pattern tries each place of its names again",
        "clients/python/syncline/sync/scan/patterns.py",
        'regex += f"(?>(?:{_ANY}++/)*?',
        'regex += f"(?:(?:{_ANY}++/)*?',
        ("tests/clients/sync/test_patterns.py::test_no_pattern_hangs",),
    ),
    Mutant(
        "a pattern may have any length",
        "clients/python/syncline/sync/scan/patterns.py",
        "    if len(line) > MAX_LINE_CHARACTERS:\n",
        "    if False:\n",
        ("tests/clients/sync/test_patterns.py::test_a_line_that_is_no_pattern",),
    ),
    Mutant(
        "the list of entries of an archive may have any size",
        "gateway/content/archive.py",
        "                    await self._pool.take(_DIRECTORY_STEP_BYTES, self._share)\n",
        "                    self._pool._grant(_DIRECTORY_STEP_BYTES, self._share)\n",
        ("tests/gateway/content/test_archive.py::test_lists_of_entries_take_memory_of_a_pool",),
    ),
    Mutant(
        "a listing costs as much as its page",
        "services/auth/paging.py",
        "    charge((len(items) if read is None else read) // ITEMS_PER_CALL)\n",
        "    charge(0)\n",
        ("tests/services/auth/test_costs_of_listings.py::test_pages_of_one_cost_as_much_as_the_whole_list",),
    ),
    Mutant(
        "a line of an ignore file is normalised whatever its length",
        "clients/python/syncline/sync/scan/filters.py",
        "normalize(line) if len(line) <= _MAX_DECOMPOSED_CHARACTERS else line",
        "normalize(line)",
        ("tests/clients/sync/test_filters.py::test_no_line_takes_the_square_of_its_length",),
    ),
    Mutant(
        "any number of bytes of ignore files are read",
        "clients/python/syncline/sync/scan/filters.py",
        "            if len(raw) > left:\n",
        "            if False:\n",
        ("tests/clients/sync/test_filters.py::test_ignore_files_that_are_refused_count_as_read",),
    ),
    Mutant(
        "what was read of ignore files is not counted",
        "clients/python/syncline/sync/scan/filters.py",
        "            self._bytes_read += min(len(raw), left)",
        "            self._bytes_read += 0",
        (
            "tests/clients/sync/test_filters.py::test_ignore_files_are_read_up_to_a_size_in_all",
            "tests/clients/sync/test_filters.py::test_ignore_files_that_are_refused_count_as_read",
        ),
    ),
    Mutant(
        "a name in transit from the space is taken for the client's own",
        "clients/python/syncline/sync/trees.py",
        "    if _is_clients_own(naming.key(node.name), node.id):\n",
        "    if False:\n",
        (
            "tests/clients/sync/test_hostile_names.py::test_a_name_in_transit_of_another_node_changes_nothing_of_that_node",
        ),
    ),
    Mutant(
        "any number of patterns apply to a directory",
        "clients/python/syncline/sync/scan/filters.py",
        "            if not here <= _MAX_OF_DIRECTORY:\n",
        "            if False:\n",
        ("tests/clients/sync/test_filters.py::test_more_patterns_than_can_be_compared_are_refused_and_said",),
    ),
    Mutant(
        "any number of patterns apply to a folder",
        "clients/python/syncline/sync/scan/filters.py",
        "            elif not everywhere <= _MAX_OF_FOLDER:\n",
        "            elif False:\n",
        ("tests/clients/sync/test_filters.py::test_more_patterns_than_can_be_compared_are_refused_and_said",),
    ),
    Mutant(
        "an ignore file may have any size",
        "clients/python/syncline/sync/scan/filters.py",
        "            if len(raw) > _MAX_FILE_BYTES:\n",
        "            if False:\n",
        ("tests/clients/sync/test_filters.py::test_an_ignore_file_that_is_too_large_is_refused_and_said",),
    ),
    Mutant(
        "a device follows a tree however deep it is",
        "clients/python/syncline/sync/trees.py",
        "                if len(way) >= MAX_PATH_NAMES or size + len(node.name.encode()) > MAX_PATH_BYTES:\n",
        "                if False:\n",
        (
            "tests/clients/sync/test_trees.py::test_what_is_deeper_than_a_path_can_be_stays_in_the_space_and_is_said_once",
        ),
    ),
    Mutant(
        "what steers a terminal passes for text",
        "lib/syncline/model/printable.py",
        "    return category in _CATEGORIES or _BLANK.match(character) is not None",
        "    return False",
        ("tests/model/test_printable.py::test_what_steers_is_shown",),
    ),
    Mutant(
        "text reaches the terminal as it is",
        "clients/python/syncline/cli/terminal.py",
        "    click.echo(harmless(text), err=err)",
        "    click.echo(text, err=err)",
        (
            "tests/e2e/test_terminal.py::test_every_command_shows_names_harmless",
            "tests/e2e/test_terminal.py::test_errors_show_names_harmless",
        ),
    ),
    Mutant(
        "errors of usage reach the terminal as they are",
        "clients/python/syncline/cli/terminal.py",
        "        told = harmless(told)\n",
        "        pass\n",
        ("tests/e2e/test_terminal.py::test_errors_show_names_harmless",),
    ),
    Mutant(
        "JSON reaches the terminal as it is",
        "clients/python/syncline/cli/terminal.py",
        "    click.echo(harmless_json(value))",
        "    click.echo(__import__('json').dumps(value, ensure_ascii=False))",
        ("tests/e2e/test_terminal.py::test_json_is_exact_and_harmless",),
    ),
    Mutant(
        "an endpoint is reached in clear",
        "clients/python/syncline/sdk/trust.py",
        '    if parts.scheme == "http" and not trust.http and not is_this_machine(parts.hostname or ""):',
        "    if False:",
        ("tests/clients/sdk/test_trust.py::test_http_is_for_this_machine_or_for_who_says_so",),
    ),
    Mutant(
        "whatever is said of TLS passes for yes",
        "clients/python/syncline/sdk/discovery.py",
        'document["tls"] is True',
        'bool(document["tls"])',
        ("tests/clients/sdk/test_trust.py::test_tls_is_only_what_says_true",),
    ),
    Mutant(
        "services of an https endpoint are reached in clear",
        "clients/python/syncline/sdk/trust.py",
        '        if parts.scheme == "https":\n',
        "        if False:\n",
        ("tests/clients/sdk/test_trust.py::test_a_place_is_below_the_endpoint_and_as_safe",),
    ),
    Mutant(
        "discovery may name any host",
        "clients/python/syncline/sdk/trust.py",
        "    if not known and not _same_domain(host, own):\n",
        "    if False:\n",
        (
            "tests/clients/sdk/test_trust.py::test_a_place_is_below_the_endpoint_and_as_safe",
            "tests/clients/sdk/test_trust.py::test_what_an_endpoint_says_is_checked_before_anything_is_sent",
        ),
    ),
    Mutant(
        "redirects are followed wherever they lead",
        "clients/python/syncline/sdk/discovery.py",
        '    check_place("it", host, endpoint, tls=target.startswith("https:"), trust=trust)\n',
        "",
        ("tests/clients/sdk/test_trust.py::test_a_redirect_to_somewhere_else_is_not_followed",),
    ),
    Mutant(
        "the address of storage is believed",
        "clients/python/syncline/sdk/discovery.py",
        '        check_place("storage", host_of_url(storage), endpoint, '
        'tls=storage.startswith("https:"), trust=trust)\n',
        "        pass\n",
        ("tests/clients/sdk/test_trust.py::test_what_an_endpoint_says_is_checked_before_anything_is_sent",),
    ),
    Mutant(
        "an answer over HTTP takes as long as it likes",
        "clients/python/syncline/sdk/bounded_http.py",
        "        left = self._end - time.monotonic()\n",
        "        left = self._silence\n",
        ("tests/clients/sdk/test_bounded_http.py::test_what_comes_byte_by_byte_has_a_deadline",),
    ),
    Mutant(
        "headers of an answer over HTTP have no end",
        "clients/python/syncline/sdk/bounded_http.py",
        "        budget.bytes_left -= size\n",
        "",
        (
            "tests/clients/sdk/test_bounded_http.py::test_what_is_not_body_and_has_no_end_is_given_up",
            "tests/clients/sdk/test_bounded_http.py::test_the_answer_of_a_proxy_has_a_bound_as_well",
        ),
    ),
    Mutant(
        "an error of storage is read to its end",
        "clients/python/syncline/sdk/bounded_http.py",
        "max_bytes if _is_success(response.status) else MAX_ERROR_BYTES",
        "max_bytes if _is_success(response.status) else 1 << 40",
        ("tests/clients/transfer/test_hostile_storage.py::test_an_error_without_an_end_is_cut",),
    ),
    Mutant(
        "a directory that became a link is followed",
        "clients/python/syncline/transfer/safe_open.py",
        "os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
        "os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC",
        ("tests/clients/sync/test_links.py::test_no_directory_on_the_way_is_a_link",),
    ),
    Mutant(
        "no symlink leads out of a folder",
        "clients/python/syncline/sync/apply/links.py",
        '    return up > path.count("/") or ".." in names[up:]',
        "    return False",
        (
            "tests/clients/sync/test_links.py::test_which_links_lead_out",
            "tests/clients/sync/test_links.py::test_a_device_can_keep_them_out_and_take_them_in_again",
            "tests/clients/sync/test_links.py::test_a_link_that_leads_out_is_kept_and_said_once",
        ),
    ),
    Mutant(
        "a symlink that leads out is not told of",
        "clients/python/syncline/sync/apply/local.py",
        "            if path is not None and leads_out(path, content.target):\n",
        "            if False:\n",
        ("tests/clients/sync/test_links.py::test_a_link_that_leads_out_is_kept_and_said_once",),
    ),
    Mutant(
        "symlinks that lead out come, whatever the setting",
        "clients/python/syncline/sync/rounds.py",
        "        outside = [] if state.outside_links else leading_out(state, live.nodes)\n",
        "        outside = []\n",
        ("tests/clients/sync/test_links.py::test_a_device_can_keep_them_out_and_take_them_in_again",),
    ),
    # ---- browsers ----
    Mutant(
        "private answers are stored",
        "gateway/http/protection.py",
        '    "cache-control": "no-store",\n',
        "",
        (
            "tests/gateway/test_http.py::test_nothing_is_guessed_and_nothing_private_is_stored",
            "tests/gateway/http/test_connections.py::test_what_is_no_http_is_a_problem_too",
        ),
    ),
    Mutant(
        "types of answers are guessed",
        "gateway/http/protection.py",
        '    "x-content-type-options": "nosniff",\n',
        "",
        ("tests/gateway/test_http.py::test_nothing_is_guessed_and_nothing_private_is_stored",),
    ),
    Mutant(
        "pages of others show answers",
        "gateway/http/protection.py",
        """    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",\n""",
        "",
        ("tests/gateway/test_http.py::test_nothing_runs_in_an_answer_or_is_taken_into_pages_of_others",),
    ),
    Mutant(
        "browsers that came by TLS may come without",
        "gateway/http/protection.py",
        "if self._hsts_seconds and",
        "if False and",
        ("tests/gateway/test_http.py::test_browsers_that_come_by_tls_come_by_nothing_else",),
    ),
    Mutant(
        "scripts come from wherever contents lie",
        "gateway/web_app.py",
        'f"script-src {app}"',
        "\"script-src 'self'\"",
        ("tests/gateway/test_web_app.py::test_scripts_come_from_where_the_app_lies_and_never_from_where_contents_lie",),
    ),
    Mutant(
        "workers come from wherever contents lie",
        "gateway/web_app.py",
        'f"worker-src {app}"',
        "\"worker-src 'self'\"",
        ("tests/gateway/test_web_app.py::test_scripts_come_from_where_the_app_lies_and_never_from_where_contents_lie",),
    ),
    Mutant(
        "contents run within our origin",
        "gateway/content/file_headers.py",
        "_IN_A_VIEWER if shown and kind == _PDF else \"default-src 'none'; sandbox\"",
        '""',
        ("tests/gateway/api/test_nodes.py::test_only_what_cannot_run_is_shown",),
    ),
    # ---- one machine ----
    Mutant(
        "the gateway is given the secret of the services",
        "stack/services.py",
        '**({} if name == "gateway" else {_SERVICE_SECRET: wiring.service_secret})',
        "**{_SERVICE_SECRET: wiring.service_secret}",
        ("tests/stack/test_up.py::test_the_gateway_does_not_know_the_secret_of_the_services",),
    ),
    Mutant(
        "everybody reads the logs",
        "stack/output.py",
        "        directory.chmod(0o700)\n",
        "        directory.chmod(0o755)\n",
        ("tests/stack/test_up.py::test_only_the_owner_reads_what_is_in_the_data_directory",),
    ),
    Mutant(
        "mails of the embedded AWS are everybody's to read",
        "stack/emulator/interface.py",
        '    by_root = scope["path"] in _READABLE_BY_ROOT and '
        'hmac.compare_digest(headers.get(b"authorization", b""), root)\n',
        '    by_root = scope["path"] in _READABLE_BY_ROOT\n',
        ("tests/stack/test_up.py::test_other_users_of_this_machine_read_no_mails",),
    ),
    # ---- copies and archives ----
    Mutant(
        "a copy is undone whatever others have changed in it",
        "services/metadata/undo.py",
        "            if await settled(live.view, is_changed):\n",
        "            if False:\n",
        ("tests/services/metadata/test_undo.py::test_a_copy_that_somebody_has_changed_stays_whole",),
    ),
    Mutant(
        "a copy is undone for a caller who has lost the right during the proof",
        "services/metadata/undo.py",
        "        await check()\n",
        "",
        (
            "tests/services/metadata/test_undo.py::"
            "test_an_undo_whose_caller_loses_the_right_during_the_proof_changes_nothing",
        ),
    ),
    Mutant(
        "a copy stays whose first answer is lost and whose repetition is refused",
        "gateway/services/copies.py",
        " or error.is_of_repetition\n",
        "\n",
        (
            "tests/gateway/test_copies.py::"
            "test_a_copy_whose_first_answer_is_lost_is_undone_though_the_repetition_is_refused",
        ),
    ),
    Mutant(
        "a copy is undone whatever others have changed since its proof",
        "services/metadata/journal/commit.py",
        "                if condition.is_broken_by(entry.accepted()):\n",
        "                if False:\n",
        ("tests/services/metadata/test_undo.py::test_no_change_at_any_moment_of_an_undo_is_lost",),
    ),
    Mutant(
        "a copy without a right is undone for whoever asks",
        "services/metadata/servicer.py",
        "            if not from_gateway:\n",
        "            if False:\n",
        (
            "tests/services/metadata/test_undo.py::"
            "test_who_lost_the_right_to_write_has_a_copy_undone_by_the_gateway_and_nobody_else_has",
        ),
    ),
    Mutant(
        "a part of a request takes effect that was to take effect as a whole",
        "services/metadata/journal/commit.py",
        "            if one.all_or_nothing:\n",
        "            if False:\n",
        (
            "tests/services/metadata/journal/test_decided_alone.py::"
            "test_nothing_of_a_request_takes_effect_unless_all_of_it_is_accepted",
        ),
    ),
    Mutant(
        "names of an archive may differ only in case",
        "gateway/content/archive.py",
        "    return hash(folded(name))\n",
        "    return hash(name)\n",
        ("tests/gateway/content/test_archive.py::test_names_that_differ_only_in_case_are_different_everywhere",),
    ),
)
