#!/usr/bin/env python3
"""planted.py --list | NAME OUT: sources of this folder with one bug each, which a test must find (ctest: planted_cuda_NAME).

The tests: kernels/words_test; of sampling.cu agent/sampler_test, of exchange.cu kernels/exchange_test, of attention_many.cu
kernels/fast_attention_test.

--list prints NAME;SOURCE;TESTS a line. TESTS is the part of the test that is run, on the kernels in each order of their threads.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent

# name: (source, tests, as it stands, as it is planted)
BUGS = {
    "missing_barrier_in_norm": ("rows.cu", "Norms", "  Sync();\n  mean = lanes[0];", "  mean = lanes[0];"),
    "missing_barrier_in_reduction": (
        "rows.cu",
        "ReduceAddNorm",
        "  if (a.norm.y == nullptr) return;\n  Sync();",
        "  if (a.norm.y == nullptr) return;",
    ),
    "missing_barrier_after_scores": ("attention.cu", "PagesAndAttention", "run, tile);\n    Sync();\n    Softmax(tile);", "run, tile);\n    Softmax(tile);"),
    "missing_barrier_between_partitions": (
        "attention.cu",
        "AttentionOfManyQueries",
        "    Sync();  // scores and factors were read before",
        "    // scores and factors were read before",
    ),
    "missing_barrier_in_fold": ("attention.cu", "AttentionInRounds", "  Sync();  // read by all before one thread writes them\n", ""),
    "missing_barrier_for_a_tile": ("product_plain.cu", "Products", "    Sync();  // this tile is there", "    // this tile is there"),
    "missing_barrier_for_terms": ("product_quantised.cu", "Products", "    Sync();\n    if (warp >= rows)", "    if (warp >= rows)"),
    "terms_in_one_buffer": ("product_quantised.cu", "Products", "begin / kWarps % 2 * round_floats", "0 * round_floats"),
    "scales_of_the_run_before": ("product_plain.cu", "Products", "scale_of(k0 / kScaleRun + 1, c)", "scale_of(k0 / kScaleRun, c)"),
    "missing_wait_for_a_copy": ("product_plain.cu", "Products", "WaitCopies<kStages - 2>()", "WaitCopies<kStages - 1>()"),
    "missing_warp_barrier": ("finish_qkv.cu", "PagesAndAttention", "    SyncWarp();\n    const auto does =", "    const auto does ="),
    "off_by_one_page_written": ("finish_qkv.cu", "PagesAndAttention", "position / a.pages.block_tokens]", "(position + 1) / a.pages.block_tokens]"),
    "off_by_one_page_read": (
        "attention.cu",
        "PagesAndAttention",
        "head + table[position / a.pages.block_tokens] * a.pages.block_stride + a.pages.v_offset;",
        "head + table[(position + 1) / a.pages.block_tokens] * a.pages.block_stride + a.pages.v_offset;",
    ),
    "table_of_another_slot": ("attention.cu", "PagesAndAttention", "a.slots[item.row] * a.stride", "0 * a.stride"),
    "window_one_too_wide": ("attention.cu", "PagesAndAttention", "high - a.window + 1 : 0", "high - a.window : 0"),
    "wrong_split": ("attention.cu", "AttentionInRounds", "left < a.span ? left : a.span;", "left < a.span ? left : a.span - 1;"),
    "split_that_forgets_its_first_round": ("attention.cu", "AttentionInRounds", "if (a.from > 0) m0 = state[0], l0 = state[1];", ""),
    "padded_row_written": ("finish_qkv.cu", "PagesAndAttention", "if (slot < 0) return;", "if (slot < -1) return;"),
    "row_of_logits_from_another": ("rows.cu", "EmbeddingAndRows", "a.x + a.rows[BlockIndex().x] * a.d", "a.x + a.rows[0] * a.d"),
    "last_id_of_another_slot": ("rows.cu", "LastIds", "a.last[a.slots[i]]", "a.last[0]"),
    "half_a_lane_sum": ("device_math.h", "Norms", "half > 0; half /= 2) v = v + Shuffle", "half > 1; half /= 2) v = v + Shuffle"),
    "scale_of_half_a_group": ("device_math.h", "Products", "for (int half = 16; half > 0; half /= 2) {\n    const uint32_t other", "for (int half = 8; half > 0; half /= 2) {\n    const uint32_t other"),
    "merges_of_another_leaf": ("product_plain.cu", "SplitProducts", "merge < a.leaves.merges[leaf]", "merge < a.leaves.merges[0]"),
    "leaf_that_goes_on": ("product_quantised.cu", "SplitProducts", "      f = 0;\n", ""),
    "bias_before_the_tree": ("product_quantised.cu", "Products", "  float f = 0;\n", "  float f = a.bias != nullptr && column < a.n ? a.bias[column] : 0;\n"),
    "sample_from_the_wrong_row": ("sampling.cu", "DrawsWhatTheHostDraws", "const float x = a.edited[r * vocab + id + i];", "const float x = a.edited[id + i];"),
    "draw_at_the_next_position": ("sampling.cu", "DrawsWhatTheHostDraws", "static_cast<uint32_t>(row.position),", "static_cast<uint32_t>(row.position + 1),"),
    "draws_of_all_choices_alike": ("sampling.cu", "DrawsWhatTheHostDraws", "static_cast<uint32_t>(row.choice), 0", "0, 0"),
    "counts_of_another_slot": ("sampling.cu", "DrawsWhatTheHostDraws", "m.counts[row.slot * vocab + first + i]", "m.counts[first + i]"),
    "drawn_id_not_counted": ("sampling.cu", "DrawsWhatTheHostDraws", "if (row.counts != 0 && bad == 0) m.counts", "if (false) m.counts"),
    "mask_of_another_row": ("sampling.cu", "DrawsWhatTheHostDraws", "m.masks[row.mask * m.mask_words()", "m.masks[0 * m.mask_words()"),
    "last_edit_forgotten": ("sampling.cu", "TakesABiasOfEveryId", "i < row.edits; i += threads", "i < row.edits - 1; i += threads"),
    "edits_of_another_row": ("sampling.cu", "DrawsWhatTheHostDraws", "m.edits[row.first_edit + i]", "m.edits[i]"),
    "ties_to_the_highest_id": ("sampling.cu", "DrawsWhatTheHostDrawsAtTheBorders", "a.value == b.value && a.id < b.id", "a.value == b.value && a.id > b.id"),
    "zeros_of_two_values": ("sampling.cu", "DrawsWhatTheHostDrawsAtTheBorders", "Bits(value + 0.0f)", "Bits(value)"),
    "digits_that_overlap": ("sampling.cu", "DrawsWhatTheHostDrawsAtTheBorders", "known = shift, shift =", "known = shift + kDigit, shift ="),
    "one_id_too_few": ("sampling.cu", "DrawsWhatTheHostDrawsAtTheBorders", "key >= least) w.list", "key > least) w.list"),
    "mass_of_the_first_list_alone": ("sampling.cu", "DrawsWhatTheHostDrawsAtTheBorders", "const bool done = w.numbers[2] != 0;", "const bool done = true;"),
    "missing_barrier_in_best": ("sampling.cu", "DrawsWhatTheHostDraws", "shared[t / 32] = best;\n  Sync();", "shared[t / 32] = best;"),
    "missing_barrier_in_sort": ("sampling.cu", "DrawsWhatTheHostDraws", "        }\n      }\n      Sync();\n", "        }\n      }\n"),
    "missing_barrier_before_edits": ("sampling.cu", "TakesABiasOfEveryId", "  if (!row.draws()) return;\n\n  Sync();", "  if (!row.draws()) return;\n"),
    "part_in_one_room": ("exchange.cu", "GathersThePartsOfAllRanks", "(int64_t{b} * 2 + round % 2) * ranks", "int64_t{b} * 2 * ranks"),
    "part_not_waited_for": ("exchange.cu", "GathersThePartsOfAllRanks", "words[t] = Await(m.arrived[b * ranks + t], round, t, a.side) ? 1 : 0;", ""),
    "part_told_before_it_is_there": ("exchange.cu", "GathersThePartsOfAllRanks", "    FenceSystem();\n    Sync();\n    if (t < ranks) {", "    if (t < ranks) {"),
    "part_told_in_the_name_of_another": ("exchange.cu", "GathersThePartsOfAllRanks", "&m.arrived[b * ranks + me], m)", "&m.arrived[b * ranks], m)"),
    "parts_read_before_all_have_come": ("exchange.cu", "GathersThePartsOfAllRanks", "    Sync();\n    bool whole = true;", "    bool whole = true;"),
    "rounds_forgotten": ("exchange.cu", "GathersThePartsOfAllRanks", "if (t == 0) m.gathered[b] = round;", ""),
    "last_words_of_a_piece_forgotten": ("exchange.cu", "GathersThePartsOfAllRanks", "i < n; i += threads) to[i] = from[i];", "i < 0; i += threads) to[i] = from[i];"),
    "room_not_waited_for": ("exchange.cu", "PassesRowsFromStageToStage", "Await(m.taken[b], round - rooms,", "Await(m.taken[b], 0,"),
    "rows_read_before_they_came": ("exchange.cu", "PassesRowsFromStageToStage", "Await(m.came[b], round,", "Await(m.came[b], round - 1,"),
    "rows_given_back_before_they_are_read": ("exchange.cu", "PassesRowsFromStageToStage", "&m.taken[b], m)->count, round);", "&m.taken[b], m)->count, round + 1);"),
    "end_of_waiting_overlooked": ("exchange.cu", "StopsWaitingWhenItIsTold", "LoadAcquire(&side.state->abort) != 0;", "false;"),
    "waiting_told_for_another": ("exchange.cu", "StopsWaitingWhenItsTimeIsOver", "side.state->whom = static_cast<uint32_t>(whom);", "side.state->whom = 0;"),
    "id_that_is_none_taken": ("exchange.cu", "MovesIdsAndTakesNoneThatIsNone", "id >= 0 && id < a.limit ? id : 0;", "id;"),
    "missing_barrier_for_a_tile_of_keys": ("attention_many.h", "IsWithinTheRoundingsOfItsSums", "    Sync();  // this tile is there\n", ""),
    "missing_barrier_after_a_tile_of_keys": ("attention_many.h", "IsWithinTheRoundingsOfItsSums", "    Sync();  // read by all before the next but one comes there\n", ""),
    "missing_wait_for_keys": ("attention_many.h", "IsWithinTheRoundingsOfItsSums", "    WaitCopies<1>();\n", ""),
    "one_position_too_many": ("attention_many.h", "IsWithinTheRoundingsOfItsSums", "position > seen[j / 2].high)", "position > seen[j / 2].high + 1)"),
    "window_of_many_one_too_wide": ("attention_many.h", "IsWithinTheRoundingsOfItsSums", "position < seen[j / 2].low ||", "position < seen[j / 2].low - 1 ||"),
    "border_of_a_window_overlooked": ("attention_many.h", "IsWithinTheRoundingsOfItsSums", "begin >= last.low;", "begin >= first.low;"),
    "values_that_nobody_sees": ("attention_many.h", "IsWithinTheRoundingsOfItsSums", "        StoreInt4(to, {0, 0, 0, 0});\n        continue;", "        continue;"),
    "sums_of_another_base": ("attention_many.h", "IsWithinTheRoundingsOfItsSums", "    sums->l[half] = sums->l[half] * before;\n", ""),
    "keys_of_another_page": ("attention_many.h", "IsWithinTheRoundingsOfItsSums", "+ int64_t{2} * token * d;", ";"),
    "elements_beyond_the_head": ("attention_many.h", "IsWithinTheRoundingsOfItsSums", "number < 2 && d < D;", "number < 1 && d < D;"),
    "query_of_another_head": ("attention_many.h", "IsWithinTheRoundingsOfItsSums", "rows[half] = a.q + row * a.ldq + h * d;", "rows[half] = a.q + row * a.ldq + item.head * d;"),
    "group_that_multiplies_the_same_keys": ("attention_groups.cu", "IsWithinTheRoundingsOfItsSums", "{tile.k + part * 16 * 128,", "{tile.k,"),
    "group_with_the_same_columns_twice": ("attention_groups.cu", "IsWithinTheRoundingsOfItsSums", "group * 16 * 128, kTile * 128}", "group * 16 * 128, 0}"),
    "infinity_overlooked": ("sampling.cu", "MarksARowThatIsNotFinite", "for (int i = 1; i < threads / 32; ++i) bad += bests[i].id;", ""),
}  # fmt: skip


def sources_of(header):
    return {
        "device_math.h": {"Norms": "rows.cu", "Products": "activations.cu"},
        "attention_many.h": {"IsWithinTheRoundingsOfItsSums": "attention_many.cu"},
    }[header]


def main():
    if sys.argv[1:] == ["--list"]:
        for name, (source, tests, *_) in BUGS.items():
            print(f"{name};{source if source.endswith('.cu') else sources_of(source)[tests]};{tests}")
        return
    name, out = sys.argv[1], pathlib.Path(sys.argv[2])
    source, tests, right, wrong = BUGS[name]
    text = (HERE / source).read_text()
    if text.count(right) != 1:
        sys.exit(f"planted.py: {name}: {source} has {text.count(right)} times what is to be changed")
    text = text.replace(right, wrong)
    if source.endswith(".h"):  # the source that is compiled includes the changed header instead
        kernel = (HERE / sources_of(source)[tests]).read_text()
        text = kernel.replace(f'#include "kernels/cuda/{source}"\n', text.replace("#pragma once\n", ""))
    out.write_text(text)


if __name__ == "__main__":
    main()
