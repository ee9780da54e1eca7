"""From files to batches: guarded readers of each kind of examples, their splits, and summaries of
what was read."""

from typing import TYPE_CHECKING

from tfx_transformer.data.conversations import (
    Conversations,
    add_turns,
    read_instructions,
    split_conversations,
)
from tfx_transformer.data.corpus import (
    TokenFile,
    blocks,
    check_documents,
    hold_out,
    read_corpus,
    read_documents,
    sample_prefixes,
    sample_texts,
    write_tokens,
)
from tfx_transformer.data.corpus_summary import describe_corpora
from tfx_transformer.data.formats import TableFile, table_files
from tfx_transformer.data.images_summary import describe_labelled_images
from tfx_transformer.data.instruction_batches import instructions
from tfx_transformer.data.instructions_summary import describe_instructions
from tfx_transformer.data.labelled_image import (
    LabelledImages,
    labelled_images,
    read_labelled_images,
    split_labelled_images,
)
from tfx_transformer.data.labelled_summary import describe_labelled_texts
from tfx_transformer.data.labelled_text import (
    LabelledTexts,
    labelled_texts,
    read_labelled_texts,
    split_labelled_texts,
)
from tfx_transformer.data.labels import (
    class_weights,
    label_ids,
    label_matrix,
    label_names,
    split_stratified,
)
from tfx_transformer.data.masking import mask_tokens
from tfx_transformer.data.pairs_summary import describe_pairs
from tfx_transformer.data.preference_pairs import (
    Preferences,
    fitting_preferences,
    preferences,
    read_preferences,
    split_preferences,
)
from tfx_transformer.data.preferences_summary import describe_preferences
from tfx_transformer.data.rehearsal import encode_rehearsed, read_rehearsed
from tfx_transformer.data.scored_summary import describe_scored_texts
from tfx_transformer.data.scored_text import (
    Scale,
    ScoredTexts,
    read_scored_texts,
    scored_texts,
    split_scored_texts,
)
from tfx_transformer.data.sentence_pair import (
    SentencePairs,
    read_sentence_pairs,
    sentence_pairs,
    split_sentence_pairs,
)
from tfx_transformer.data.sentence_pairs_summary import describe_sentence_pairs
from tfx_transformer.data.tables import read_table, stream_table, write_bad_rows
from tfx_transformer.data.tagged_reader import read_tagged_texts
from tfx_transformer.data.tagged_summary import describe_tagged_texts
from tfx_transformer.data.tagged_text import TaggedTexts, split_tagged_texts, tagged_texts
from tfx_transformer.data.taught_image import (
    UnlabelledImages,
    read_unlabelled_images,
    taught_images,
)
from tfx_transformer.data.taught_number import taught_numbers
from tfx_transformer.data.taught_tag import taught_tags
from tfx_transformer.data.taught_text import (
    UnlabelledTexts,
    add_unlabelled_pairs,
    read_unlabelled_texts,
    taught_pairs,
    taught_texts,
)
from tfx_transformer.data.taught_token import (
    likeliest_of,
    taught_conversations,
    taught_instructions,
    unanswered,
)
from tfx_transformer.data.token_folder import check_token_folder, read_token_folder
from tfx_transformer.data.tool_calls import (
    ToolCalls,
    mark_copied,
    read_tool_calls,
    split_tool_calls,
)
from tfx_transformer.data.tool_calls_summary import describe_tool_calls
from tfx_transformer.data.translation_pair import Pairs, pairs, read_pairs, split_pairs
from tfx_transformer.data.varied_calls import texts_without_values, vary_tool_calls
from tfx_transformer.renamed import old_names
from tfx_transformer.text.spans import Span, tag_names
from tfx_transformer.text.tools import Tools, read_tools

if not TYPE_CHECKING:  # a checker that sees it accepts every name
    __getattr__ = old_names(__name__, {"masked": "mask_tokens", "beginnings": "sample_prefixes"})

__all__ = [
    "Conversations",
    "LabelledImages",
    "LabelledTexts",
    "Pairs",
    "Preferences",
    "Scale",
    "ScoredTexts",
    "SentencePairs",
    "Span",
    "TableFile",
    "TaggedTexts",
    "TokenFile",
    "ToolCalls",
    "Tools",
    "UnlabelledImages",
    "UnlabelledTexts",
    "add_turns",
    "add_unlabelled_pairs",
    "sample_prefixes",
    "blocks",
    "check_documents",
    "check_token_folder",
    "class_weights",
    "describe_corpora",
    "describe_instructions",
    "describe_labelled_images",
    "describe_labelled_texts",
    "describe_pairs",
    "describe_preferences",
    "describe_scored_texts",
    "describe_sentence_pairs",
    "describe_tagged_texts",
    "describe_tool_calls",
    "encode_rehearsed",
    "fitting_preferences",
    "hold_out",
    "instructions",
    "label_ids",
    "label_matrix",
    "label_names",
    "labelled_images",
    "labelled_texts",
    "likeliest_of",
    "mask_tokens",
    "pairs",
    "preferences",
    "read_corpus",
    "read_documents",
    "read_instructions",
    "read_labelled_images",
    "read_labelled_texts",
    "read_pairs",
    "read_preferences",
    "read_rehearsed",
    "read_scored_texts",
    "read_sentence_pairs",
    "read_table",
    "read_token_folder",
    "read_tagged_texts",
    "mark_copied",
    "read_tool_calls",
    "read_tools",
    "read_unlabelled_images",
    "read_unlabelled_texts",
    "sample_texts",
    "scored_texts",
    "sentence_pairs",
    "split_conversations",
    "split_labelled_images",
    "split_labelled_texts",
    "split_pairs",
    "split_preferences",
    "split_scored_texts",
    "split_sentence_pairs",
    "split_stratified",
    "split_tagged_texts",
    "split_tool_calls",
    "stream_table",
    "table_files",
    "tag_names",
    "tagged_texts",
    "taught_conversations",
    "taught_images",
    "taught_instructions",
    "taught_numbers",
    "taught_pairs",
    "taught_tags",
    "taught_texts",
    "texts_without_values",
    "unanswered",
    "vary_tool_calls",
    "write_bad_rows",
    "write_tokens",
]
