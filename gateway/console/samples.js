/** Something to begin with: invented texts, and sets of labels that many need. */

export const LABEL_SETS = {
  General: ["person", "organization", "location", "date"],
  "Personal data": ["person", "email address", "phone number", "address", "date of birth"],
  Clinical: ["disease", "drug", "dosage", "symptom"],
};

export const EXAMPLES = {
  news: {
    labels: ["person", "organization", "location", "date"],
    text: `Maren Albers, who leads the shipping company Norderlicht, said in Hamburg on 14 March 2024 that an office in Rotterdam will open next year. The European Investment Bank lends the money.

Hi Zoë 👋🏽, greetings from São Paulo! 🇧🇷 Yesterday I met Björn Ångström at a concert 🎶; tomorrow I fly to Tokyo (東京).

ביום שני נפגשה אנגלה מרקל עם מנהלי Siemens במינכן.

التقت أنغيلا ميركل بمديري شركة سيمنز في ميونيخ يوم الاثنين.`,
  },
  ward: {
    labels: ["disease", "drug", "dosage", "symptom"],
    text: `A 58-year-old man with type 2 diabetes and hypertension was treated with metformin 500 mg and lisinopril. After two weeks on amoxicillin for pneumonia he developed a skin rash and diarrhea.

She takes 200 mg ibuprofen for migraine, and reports nausea.`,
  },
};
